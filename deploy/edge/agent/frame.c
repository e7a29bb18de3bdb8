/* From a picture to the recogniser's input, step by step as Pillow does it for serving/edge/frame.py: decoded (jpeg.c,
   png.c), turned as EXIF says, reduced by whole pixels to no less than twice the input, then bilinear with a support that
   grows with the scale. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "image.h"

enum { ORIENTATION = 0x0112 };

Image blank(size_t width, size_t height) {
  return (Image){width, height, allocate(width * height * CHANNELS), 1};
}

static uint32_t field(const uint8_t *place, int bytes, bool is_little) {
  uint32_t value = 0;
  for (int byte = 0; byte < bytes; byte++) value = value << 8 | place[is_little ? bytes - 1 - byte : byte];
  return value;
}

int exif_orientation(const uint8_t *tiff, size_t size) {
  if (size < 8) return 1;
  bool is_little = tiff[0] == 'I';
  size_t place = field(tiff + 4, 4, is_little);
  if (place > size - 2) return 1;
  size_t entries = field(tiff + place, 2, is_little);
  for (place += 2; entries-- && place + 12 <= size; place += 12)
    if (field(tiff + place, 2, is_little) == ORIENTATION) {
      uint32_t turned = field(tiff + place + 8, 2, is_little);
      return turned >= 1 && turned <= 8 ? (int)turned : 1;
    }
  return 1;
}

static Image turned(Image image) {
  int how = image.orientation;
  if (how == 1) return image;
  bool swaps = how >= 5;
  Image made = blank(swaps ? image.height : image.width, swaps ? image.width : image.height);
  for (size_t y = 0; y < made.height; y++)
    for (size_t x = 0; x < made.width; x++) {
      size_t across = swaps ? y : x, down = swaps ? x : y;
      if (how == 2 || how == 3 || how == 7 || how == 8) across = image.width - 1 - across;
      if (how == 3 || how == 4 || how == 6 || how == 7) down = image.height - 1 - down;
      memcpy(made.pixels + (y * made.width + x) * CHANNELS, image.pixels + (down * image.width + across) * CHANNELS, CHANNELS);
    }
  free(image.pixels);
  return made;
}

/* Pillow's Image.reduce: the means of blocks, those at the edges of what there is. */
static Image reduced(Image image, size_t across, size_t down) {
  if (across == 1 && down == 1) return image;
  Image made = blank((image.width + across - 1) / across, (image.height + down - 1) / down);
  for (size_t y = 0; y < made.height; y++)
    for (size_t x = 0; x < made.width; x++) {
      size_t right = (x + 1) * across < image.width ? (x + 1) * across : image.width;
      size_t bottom = (y + 1) * down < image.height ? (y + 1) * down : image.height;
      size_t area = (right - x * across) * (bottom - y * down);
      for (int channel = 0; channel < CHANNELS; channel++) {
        size_t sum = area / 2;
        for (size_t row = y * down; row < bottom; row++)
          for (size_t column = x * across; column < right; column++)
            sum += image.pixels[(row * image.width + column) * CHANNELS + channel];
        made.pixels[(y * made.width + x) * CHANNELS + channel] = (uint8_t)(sum / area);
      }
    }
  free(image.pixels);
  return made;
}

/* Pillow's bilinear filter along one axis: `length` of `stride` bytes each become `side`, for `lines` of `step` bytes. */
static void filter(const uint8_t *from, uint8_t *to, size_t length, double covered, size_t side, size_t stride,
                   size_t to_stride, size_t lines, size_t step, size_t to_step) {
  double scale = covered / (double)side, support = scale > 1 ? scale : 1;
  for (size_t place = 0; place < side; place++) {
    double centre = ((double)place + 0.5) * scale;
    long first = (long)(centre - support + 0.5), last = (long)(centre + support + 0.5);
    if (first < 0) first = 0;
    if (last > (long)length) last = (long)length;
    double total = 0;
    for (long pixel = first; pixel < last; pixel++) total += fmax(0, 1 - fabs(((double)pixel - centre + 0.5) / support));
    for (size_t line = 0; line < lines; line++)
      for (int channel = 0; channel < CHANNELS; channel++) {
        double sum = 0;
        for (long pixel = first; pixel < last; pixel++)
          sum += fmax(0, 1 - fabs(((double)pixel - centre + 0.5) / support)) * from[line * step + (size_t)pixel * stride + (size_t)channel];
        to[line * to_step + place * to_stride + (size_t)channel] = (uint8_t)(sum / total + 0.5);
      }
  }
}

static size_t factor(size_t length, size_t side) {
  size_t found = length / (side * GAP);
  return found > 1 ? found : 1;
}

static void resize(Image image, size_t side, float *pixels) {
  size_t across = factor(image.width, side), down = factor(image.height, side);
  double width = (double)image.width / (double)across, height = (double)image.height / (double)down;
  image = reduced(image, across, down);
  Image wide = blank(side, image.height), made = blank(side, side);
  filter(image.pixels, wide.pixels, image.width, width, side, CHANNELS, CHANNELS, image.height, image.width * CHANNELS, side * CHANNELS);
  filter(wide.pixels, made.pixels, image.height, height, side, side * CHANNELS, side * CHANNELS, side, CHANNELS, CHANNELS);
  for (size_t value = 0; value < side * side * CHANNELS; value++) pixels[value] = made.pixels[value];
  free(image.pixels);
  free(wide.pixels);
  free(made.pixels);
}

bool prepare(const uint8_t *content, size_t size, size_t side, float *pixels, char *why, size_t longest) {
  Image image;
  bool is_good = is_png(content, size) ? decode_png(content, size, &image, why, longest)
                                       : decode_jpeg(content, size, side, &image, why, longest);
  if (is_good) resize(turned(image), side, pixels);
  return is_good;
}
