/* The device's runtime for players without Python: what `adclick-edge check` and `watch` do, of the same bundles. */
#ifndef ADCLICK_EDGE_AGENT_H
#define ADCLICK_EDGE_AGENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As serving/edge/errors.py: 2 wrong command or file, 3 a picture must not be shown, 4 bundle refused. */
enum { EXIT_WRONG = 2, EXIT_THREAT = 3, EXIT_REFUSED = 4 };
enum { LONGEST_REASON = 512, SHA256_CHARACTERS = 65 };
static const size_t FRAME_BYTES = (size_t)64 << 20;

/* Ends the program with a line on standard error. */
_Noreturn void fail(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for a bundle, with the reason's short name as serving/edge/errors.py lists them. */
_Noreturn void refuse(const char *reason, const char *format, ...) __attribute__((format(printf, 2, 3)));

void *allocate(size_t bytes);
/* Reads a file, or standard input for "-", of at most `most` bytes; one byte more is read of a longer one. NULL, with
   errno, where it cannot be read. */
uint8_t *read_file(const char *path, size_t most, size_t *size);

/* A text of the system's as JSON: bytes that are no UTF-8 become question marks. */
json_t *json_text(const char *text);
/* Writes a line of JSON to standard output, and frees it. */
void print_line(json_t *line);

typedef struct {
  const uint8_t *content;
  size_t size;
} Part;

/* A verified bundle; pointers are into its file's content. */
typedef struct {
  int64_t version, created;
  char sha256[SHA256_CHARACTERS];
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

/* Makes the recogniser's input of a JPEG or PNG, as serving/edge/frame.py does; false, with why, of what is neither. */
bool prepare(const uint8_t *content, size_t size, size_t side, float *pixels, char *why, size_t longest);

/* A loaded bundle: a picture in, a decision out. */
typedef struct {
  const Bundle *bundle;
  Recogniser *recogniser;
  size_t side;
  float *pixels, *embedding;
} Eye;

Eye open_eye(const Bundle *bundle);

/* The worst last: of kinds that a streak holds equally often, the worst is told. */
typedef enum { APPROVED, EARLY, EXPIRED, UNKNOWN, FORBIDDEN, KINDS } Kind;
extern const char *const KIND_NAMES[KINDS];

/* What a frame shows; the creative, NULL if unknown, is the bundle's. */
typedef struct {
  Kind kind;
  json_t *creative;
  double similarity;
} Decision;

/* Decides about a file's content, as serving/edge/decision.py does; false, with why, of a broken frame. */
bool look(const Eye *eye, const uint8_t *content, size_t size, Decision *decision, char *why, size_t longest);

/* As `Hysteresis` of serving/edge/decision.py: opens after a streak of threats, closes after one of approved frames. */
typedef struct {
  long frames;
  double hold_seconds;
  bool is_open;
  long streak, counts[KINDS];
  double since;
  Decision examples[KINDS];
} Hysteresis;

/* Whether an alert opens or closes by a frame's decision, and what is to be told of. */
bool turns(Hysteresis *hysteresis, Decision decision, double monotonic, Decision *told);

typedef struct {
  const char *source, *state, *reports_folder, *device;
  long frames;
  double hold_seconds, report_seconds;
  bool once;
} WatchOptions;

/* Watches a folder until SIGTERM or SIGINT, or, once, until its pictures were seen. */
int watch(const Eye *eye, const WatchOptions *options);

#endif
