/* PNGs by libpng: 8 bits a channel, no gamma, white where they are transparent, as Pillow and serving/edge/frame.py have
   it. */
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "image.h"

enum { SIGNATURE_BYTES = 8, WITH_ALPHA = 4, WHITE = 255 };

typedef struct {
  const uint8_t *content;
  size_t size, place;
  char *why;
  size_t longest;
} Reader;

bool is_png(const uint8_t *content, size_t size) { return size >= SIGNATURE_BYTES && !png_sig_cmp(content, 0, SIGNATURE_BYTES); }

static void stop(png_structp decoder, png_const_charp message) {
  Reader *reader = png_get_error_ptr(decoder);
  snprintf(reader->why, reader->longest, "PNG: %s", message);
  png_longjmp(decoder, 1);
}

static void say_nothing(png_structp decoder, png_const_charp message) {
  (void)decoder;
  (void)message;
}

static void read_bytes(png_structp decoder, png_bytep to, size_t bytes) {
  Reader *reader = png_get_io_ptr(decoder);
  if (bytes > reader->size - reader->place) png_error(decoder, "it is cut off");
  memcpy(to, reader->content + reader->place, bytes);
  reader->place += bytes;
}

static int orientation(png_structp decoder, png_infop info) {
  png_uint_32 size = 0;
  png_bytep exif = NULL;
  return png_get_eXIf_1(decoder, info, &size, &exif) ? exif_orientation(exif, size) : 1;
}

/* Lays RGBA over white, each pixel in the place of an earlier one. */
static void flatten(uint8_t *pixels, size_t count) {
  for (size_t pixel = 0; pixel < count; pixel++) {
    const uint8_t *from = pixels + pixel * WITH_ALPHA;
    unsigned int alpha = from[CHANNELS];
    uint8_t flat[CHANNELS];
    for (int channel = 0; channel < CHANNELS; channel++)
      flat[channel] = (uint8_t)((from[channel] * alpha + WHITE * (WHITE - alpha) + WHITE / 2) / WHITE);
    memcpy(pixels + pixel * CHANNELS, flat, sizeof flat);
  }
}

bool decode_png(const uint8_t *content, size_t size, Image *image, char *why, size_t longest) {
  Reader reader = {content, size, 0, why, longest};
  uint8_t *volatile pixels = NULL;
  png_bytep *volatile rows = NULL;
  png_structp decoder = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, stop, say_nothing);
  png_infop info = decoder ? png_create_info_struct(decoder) : NULL;
  if (!info) fail(EXIT_WRONG, "no memory for libpng");
  if (setjmp(png_jmpbuf(decoder))) {
    png_destroy_read_struct(&decoder, &info, NULL);
    free(pixels);
    free((void *)rows);
    return false;
  }
  png_set_read_fn(decoder, &reader, read_bytes);
  png_read_info(decoder, info);
  size_t width = png_get_image_width(decoder, info), height = png_get_image_height(decoder, info);
  if (width * height > MAXIMUM_PIXELS) {
    snprintf(why, longest, "more than %zu pixels", MAXIMUM_PIXELS);
    png_longjmp(decoder, 1);
  }
  if (png_get_bit_depth(decoder, info) == 16 && png_get_color_type(decoder, info) == PNG_COLOR_TYPE_GRAY) {
    snprintf(why, longest, "a PNG of 16 bits of grey");
    png_longjmp(decoder, 1);
  }
  png_set_strip_16(decoder);
  png_set_expand(decoder);
  png_set_gray_to_rgb(decoder);
  png_set_add_alpha(decoder, WHITE, PNG_FILLER_AFTER);
  png_set_interlace_handling(decoder);
  png_read_update_info(decoder, info);
  if (png_get_rowbytes(decoder, info) != width * WITH_ALPHA) png_error(decoder, "a form that is not read");
  pixels = allocate(width * height * WITH_ALPHA);
  rows = allocate(height * sizeof *rows);
  for (size_t row = 0; row < height; row++) rows[row] = pixels + row * width * WITH_ALPHA;
  png_read_image(decoder, rows);
  *image = (Image){width, height, pixels, orientation(decoder, info)};
  png_destroy_read_struct(&decoder, &info, NULL);
  free((void *)rows);
  flatten(image->pixels, width * height);
  return true;
}
