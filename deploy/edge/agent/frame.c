/* From a JPEG to the recogniser's input, step by step as Pillow does it for serving/edge/frame.py: scaled while it is
   decoded, turned as EXIF says, reduced by whole pixels to no less than twice the input, then bilinear with a support
   that grows with the scale. */
#include <stdio.h>

#include <jerror.h>
#include <jpeglib.h>
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"

enum { GAP = 2, CHANNELS = 3, EXIF_BYTES = 6, ORIENTATION = 0x0112 };
static const size_t MAXIMUM_PIXELS = 40000000;

typedef struct {
  size_t width, height;
  uint8_t *pixels;
} Image;

typedef struct {
  struct jpeg_error_mgr base;
  jmp_buf place;
  bool is_warned;
} Errors;

static void stop(j_common_ptr decoder) { longjmp(((Errors *)decoder->err)->place, 1); }

static void say_nothing(j_common_ptr decoder) { (void)decoder; }

/* A stream that ends early is filled up with grey by libjpeg, with a warning; Pillow refuses it. */
static void note(j_common_ptr decoder, int level) {
  if (level < 0 && decoder->err->msg_code == JWRN_JPEG_EOF) ((Errors *)decoder->err)->is_warned = true;
}

static Image blank(size_t width, size_t height) {
  return (Image){width, height, allocate(width * height * CHANNELS)};
}

static uint32_t field(const uint8_t *place, int bytes, bool is_little) {
  uint32_t value = 0;
  for (int byte = 0; byte < bytes; byte++) value = value << 8 | place[is_little ? bytes - 1 - byte : byte];
  return value;
}

/* What EXIF 2.3 (TIFF 6.0) says of how the picture is turned: 1 to 8, 1 for upright. */
static int orientation(const struct jpeg_decompress_struct *decoder) {
  for (jpeg_saved_marker_ptr marker = decoder->marker_list; marker; marker = marker->next) {
    if (marker->marker != JPEG_APP0 + 1 || marker->data_length < EXIF_BYTES + 8 || memcmp(marker->data, "Exif\0\0", EXIF_BYTES))
      continue;
    const uint8_t *tiff = marker->data + EXIF_BYTES;
    size_t size = marker->data_length - EXIF_BYTES;
    bool is_little = tiff[0] == 'I';
    size_t place = field(tiff + 4, 4, is_little);
    if (place + 2 > size) return 1;
    size_t entries = field(tiff + place, 2, is_little);
    for (place += 2; entries-- && place + 12 <= size; place += 12)
      if (field(tiff + place, 2, is_little) == ORIENTATION) {
        uint32_t turned = field(tiff + place + 8, 2, is_little);
        return turned >= 1 && turned <= 8 ? (int)turned : 1;
      }
    return 1;
  }
  return 1;
}

static Image turned(Image image, int how) {
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
  struct jpeg_decompress_struct decoder;
  Errors errors = {.is_warned = false};
  Image volatile image = {0, 0, NULL};
  decoder.err = jpeg_std_error(&errors.base);
  errors.base.error_exit = stop;
  errors.base.output_message = say_nothing;
  errors.base.emit_message = note;
  if (setjmp(errors.place)) {
    errors.base.format_message((j_common_ptr)&decoder, why);
    jpeg_destroy_decompress(&decoder);
    free(image.pixels);
    return false;
  }
  jpeg_create_decompress(&decoder);
  jpeg_save_markers(&decoder, JPEG_APP0 + 1, 0xFFFF);
  jpeg_mem_src(&decoder, content, size);
  jpeg_read_header(&decoder, TRUE);
  if ((size_t)decoder.image_width * decoder.image_height > MAXIMUM_PIXELS || decoder.num_components == 4) {
    snprintf(why, longest, decoder.num_components == 4 ? "a JPEG in CMYK" : "more than %zu pixels", MAXIMUM_PIXELS);
    jpeg_destroy_decompress(&decoder);
    return false;
  }
  /* Image.draft: by 8, 4 or 2, to no less than twice the input. */
  size_t scale = decoder.image_width / (side * GAP), other = decoder.image_height / (side * GAP);
  scale = other < scale ? other : scale;
  decoder.scale_num = 1;
  decoder.scale_denom = scale >= 8 ? 8 : scale >= 4 ? 4 : scale >= 2 ? 2 : 1;
  decoder.out_color_space = JCS_RGB;
  jpeg_start_decompress(&decoder);
  Image decoded = blank(decoder.output_width, decoder.output_height);
  image.pixels = decoded.pixels;
  while (decoder.output_scanline < decoder.output_height) {
    JSAMPROW row = decoded.pixels + (size_t)decoder.output_scanline * decoded.width * CHANNELS;
    jpeg_read_scanlines(&decoder, &row, 1);
  }
  int how = orientation(&decoder);
  bool is_whole = !errors.is_warned;
  jpeg_destroy_decompress(&decoder);
  if (!is_whole) {
    snprintf(why, longest, "the JPEG is cut off");
    free(decoded.pixels);
    return false;
  }
  resize(turned(decoded, how), side, pixels);
  return true;
}
