/* The device's runtime for players without Python: what `adclick-edge check` does, of the same bundles. */
#ifndef ADCLICK_EDGE_AGENT_H
#define ADCLICK_EDGE_AGENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As serving/edge/errors.py: 2 wrong command or file, 3 a picture must not be shown, 4 bundle refused. */
enum { EXIT_WRONG = 2, EXIT_THREAT = 3, EXIT_REFUSED = 4 };

/* Ends the program with a line on standard error. */
_Noreturn void fail(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for a bundle, with the reason's short name as serving/edge/errors.py lists them. */
_Noreturn void refuse(const char *reason, const char *format, ...) __attribute__((format(printf, 2, 3)));

void *allocate(size_t bytes);
/* Reads a file, or standard input for "-", of at most `most` bytes; one byte more is read of a longer one. */
uint8_t *read_file(const char *path, size_t most, size_t *size);

typedef struct {
  const uint8_t *content;
  size_t size;
} Part;

/* A verified bundle; pointers are into its file's content. */
typedef struct {
  int64_t version, created;
  Part model, embeddings, scales;
  json_t *creatives;
  size_t count, dimension;
  double known;
} Bundle;

Bundle read_bundle(const uint8_t *content, size_t size, const char *const *public_keys, size_t keys, int64_t minimum_version);

typedef struct Recogniser Recogniser;
Recogniser *load_recogniser(Part model, size_t *side, size_t *dimension);
/* The embedding of side x side x 3 pixels, 0 to 255. */
void embed(Recogniser *recogniser, const float *pixels, float *embedding);

/* Makes the recogniser's input of a JPEG, as serving/edge/frame.py does; false, with why, of what is no whole JPEG. */
bool prepare(const uint8_t *content, size_t size, size_t side, float *pixels, char *why, size_t longest);

#endif
