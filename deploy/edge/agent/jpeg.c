/* JPEGs by libjpeg, scaled while they are decoded, as Pillow's Image.draft does. */
#include <stdio.h>

#include <jerror.h>
#include <jpeglib.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "image.h"

enum { EXIF_BYTES = 6 };

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

static int orientation(const struct jpeg_decompress_struct *decoder) {
  for (jpeg_saved_marker_ptr marker = decoder->marker_list; marker; marker = marker->next)
    if (marker->marker == JPEG_APP0 + 1 && marker->data_length >= EXIF_BYTES && !memcmp(marker->data, "Exif\0\0", EXIF_BYTES))
      return exif_orientation(marker->data + EXIF_BYTES, marker->data_length - EXIF_BYTES);
  return 1;
}

bool decode_jpeg(const uint8_t *content, size_t size, size_t side, Image *image, char *why, size_t longest) {
  struct jpeg_decompress_struct decoder;
  Errors errors = {.is_warned = false};
  uint8_t *volatile pixels = NULL;
  decoder.err = jpeg_std_error(&errors.base);
  errors.base.error_exit = stop;
  errors.base.output_message = say_nothing;
  errors.base.emit_message = note;
  if (setjmp(errors.place)) {
    char message[JMSG_LENGTH_MAX];
    errors.base.format_message((j_common_ptr)&decoder, message);
    snprintf(why, longest, "%s", message);
    jpeg_destroy_decompress(&decoder);
    free(pixels);
    return false;
  }
  jpeg_create_decompress(&decoder);
  jpeg_save_markers(&decoder, JPEG_APP0 + 1, 0xFFFF);
  jpeg_mem_src(&decoder, content, size);
  jpeg_read_header(&decoder, TRUE);
  if ((size_t)decoder.image_width * decoder.image_height > MAXIMUM_PIXELS || decoder.num_components == 4) {
    if (decoder.num_components == 4) snprintf(why, longest, "a JPEG in CMYK");
    else snprintf(why, longest, "more than %zu pixels", MAXIMUM_PIXELS);
    jpeg_destroy_decompress(&decoder);
    return false;
  }
  /* By 8, 4 or 2, to no less than twice the input. */
  size_t scale = decoder.image_width / (side * GAP), other = decoder.image_height / (side * GAP);
  scale = other < scale ? other : scale;
  decoder.scale_num = 1;
  decoder.scale_denom = scale >= 8 ? 8 : scale >= 4 ? 4 : scale >= 2 ? 2 : 1;
  decoder.out_color_space = JCS_RGB;
  jpeg_start_decompress(&decoder);
  *image = blank(decoder.output_width, decoder.output_height);
  pixels = image->pixels;
  while (decoder.output_scanline < decoder.output_height) {
    JSAMPROW row = image->pixels + (size_t)decoder.output_scanline * image->width * CHANNELS;
    jpeg_read_scanlines(&decoder, &row, 1);
  }
  image->orientation = orientation(&decoder);
  bool is_whole = !errors.is_warned;
  jpeg_destroy_decompress(&decoder);
  if (!is_whole) {
    snprintf(why, longest, "the JPEG is cut off");
    free(image->pixels);
  }
  return is_whole;
}
