/* A decoded picture, and what of it the file's form tells. */
#ifndef ADCLICK_EDGE_IMAGE_H
#define ADCLICK_EDGE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHANNELS = 3 };
/* As serving/edge/frame.py; and Pillow's reducing_gap. */
static const size_t MAXIMUM_PIXELS = 40000000;
enum { GAP = 2 };

/* RGB, by rows; the pixels are the caller's to free. */
typedef struct {
  size_t width, height;
  uint8_t *pixels;
  int orientation;
} Image;

Image blank(size_t width, size_t height);

/* What EXIF 2.3 (TIFF 6.0) says of how the picture is turned: 1 to 8, 1 for upright. */
int exif_orientation(const uint8_t *tiff, size_t size);

/* Each decodes a whole file of its form, as Pillow does; false, with why, of what is none. */
bool decode_jpeg(const uint8_t *content, size_t size, size_t side, Image *image, char *why, size_t longest);
bool is_png(const uint8_t *content, size_t size);
bool decode_png(const uint8_t *content, size_t size, Image *image, char *why, size_t longest);

#endif
