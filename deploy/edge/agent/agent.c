/* adclick-edge-agent: says what pictures show, as `adclick-edge check` does, for players without Python. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent.h"

enum { MOST_KEYS = 16, LONGEST_REASON = 256 };
static const size_t BUNDLE_BYTES = (size_t)1 << 30, FRAME_BYTES = (size_t)64 << 20;
static const char USAGE[] =
    "usage: adclick-edge-agent --bundle FILE --public-key FILE [--public-key FILE] [--minimum-version N] PICTURE...\n"
    "Says what pictures show, a JSON object a line; JPEGs, - for one on standard input.\n"
    "Exit codes: 0 all approved; 2 wrong command or file; 3 a picture must not be shown; 4 bundle refused.\n";

static _Noreturn void end(int exit_code, const char *reason, const char *format, va_list arguments) {
  fputs("error: ", stderr);
  vfprintf(stderr, format, arguments);
  if (reason) fprintf(stderr, " (%s)", reason);
  fputc('\n', stderr);
  exit(exit_code);
}

void fail(int exit_code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  end(exit_code, NULL, format, arguments);
}

void refuse(const char *reason, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  end(EXIT_REFUSED, reason, format, arguments);
}

void *allocate(size_t bytes) {
  void *memory = calloc(1, bytes ? bytes : 1);
  if (!memory) fail(EXIT_WRONG, "no memory for %zu bytes", bytes);
  return memory;
}

uint8_t *read_file(const char *path, size_t most, size_t *size) {
  FILE *file = strcmp(path, "-") ? fopen(path, "rb") : stdin;
  if (!file) fail(EXIT_WRONG, "%s: cannot be read: %s", path, strerror(errno));
  size_t room = 1 << 16, held = 0;
  uint8_t *content = allocate(room);
  for (;;) {
    size_t got = fread(content + held, 1, room - held, file);
    held += got;
    if (!got || held > most) break;
    if (held < room) continue;
    uint8_t *larger = realloc(content, room *= 2);
    if (!larger) fail(EXIT_WRONG, "no memory for %zu bytes", room);
    content = larger;
  }
  if (ferror(file)) fail(EXIT_WRONG, "%s: cannot be read: %s", path, strerror(errno));
  if (file != stdin) fclose(file);
  *size = held;
  return content;
}

/* The row of greatest cosine similarity; -1 of an empty catalogue, and of an embedding that holds no numbers. */
static long nearest(const Bundle *bundle, const float *embedding, double *similarity) {
  long best = -1;
  *similarity = -1;
  for (size_t row = 0; row < bundle->count; row++) {
    const int8_t *values = (const int8_t *)bundle->embeddings.content + row * bundle->dimension;
    float scale, product = 0;
    memcpy(&scale, bundle->scales.content + row * sizeof scale, sizeof scale);
    if (!isfinite(scale)) refuse("unfit", "its parts do not fit together: a scale is no number");
    for (size_t place = 0; place < bundle->dimension; place++) product += (float)values[place] * embedding[place];
    if (product * scale > *similarity) {
      *similarity = product * scale;
      best = (long)row;
    }
  }
  return best;
}

/* As serving/edge/decision.py decides; a time that is missing is null. */
static const char *decide(const Bundle *bundle, json_t **creative, const float *embedding, double *similarity) {
  long row = nearest(bundle, embedding, similarity);
  *creative = NULL;
  if (row < 0 || !(*similarity >= bundle->known)) return "unknown";
  *creative = json_array_get(bundle->creatives, (size_t)row);
  /* A clock that stands before the bundle was made is wrong; bookings are judged as of then. */
  double now = (double)time(NULL) > (double)bundle->created ? (double)time(NULL) : (double)bundle->created;
  json_t *from = json_object_get(*creative, "valid_from"), *until = json_object_get(*creative, "valid_until");
  if (json_is_true(json_object_get(*creative, "forbidden"))) return "forbidden";
  if (json_is_number(from) && now < json_number_value(from)) return "early";
  if (json_is_number(until) && now >= json_number_value(until)) return "expired";
  return "approved";
}

static void print(json_t *line) {
  if (json_dumpf(line, stdout, JSON_REAL_PRECISION(6)) || putchar('\n') == EOF || fflush(stdout))
    fail(EXIT_WRONG, "standard output cannot be written");
  json_decref(line);
}

int main(int count, char **arguments) {
  static const struct option OPTIONS[] = {{"bundle", required_argument, NULL, 'b'},
                                          {"public-key", required_argument, NULL, 'k'},
                                          {"minimum-version", required_argument, NULL, 'm'},
                                          {"version", no_argument, NULL, 'v'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  const char *path = NULL, *keys[MOST_KEYS];
  size_t key_count = 0;
  int64_t minimum_version = 0;
  for (int option; (option = getopt_long(count, arguments, "", OPTIONS, NULL)) != -1;) {
    char *rest = NULL;
    if (option == 'h') return fputs(USAGE, stdout) < 0;
    if (option == 'v') return puts("adclick-edge-agent " RUNTIME_VERSION) < 0;
    if (option == 'b') path = optarg;
    if (option == 'k' && key_count < MOST_KEYS) keys[key_count++] = optarg;
    if (option == 'm') minimum_version = strtoll(optarg, &rest, 10);
    if (option == '?' || (rest && *rest)) return fputs(USAGE, stderr), EXIT_WRONG;
  }
  if (!path || !key_count || optind == count) return fputs(USAGE, stderr), EXIT_WRONG;

  size_t size, side, dimension;
  uint8_t *content = read_file(path, BUNDLE_BYTES, &size);
  if (size > BUNDLE_BYTES) refuse("damaged", "more than %zu bytes", BUNDLE_BYTES);
  Bundle bundle = read_bundle(content, size, keys, key_count, minimum_version);
  Recogniser *recogniser = load_recogniser(bundle.model, &side, &dimension);
  if (dimension != bundle.dimension)
    refuse("unfit", "the recogniser gives %zu numbers, the catalogue has %zu", dimension, bundle.dimension);
  float *pixels = allocate(side * side * 3 * sizeof *pixels), *embedding = allocate(dimension * sizeof *embedding);
  int worst = 0;
  for (int file = optind; file < count; file++) {
    char why[LONGEST_REASON];
    size_t bytes;
    uint8_t *picture = read_file(arguments[file], FRAME_BYTES, &bytes);
    bool is_good = bytes <= FRAME_BYTES && prepare(picture, bytes, side, pixels, why, sizeof why);
    if (bytes > FRAME_BYTES) snprintf(why, sizeof why, "more than %zu bytes", FRAME_BYTES);
    free(picture);
    if (!is_good) {
      print(json_pack("{s:s, s:s, s:s}", "file", arguments[file], "kind", "broken", "reason", why));
      worst = EXIT_THREAT;
      continue;
    }
    embed(recogniser, pixels, embedding);
    json_t *creative;
    double similarity;
    const char *kind = decide(&bundle, &creative, embedding, &similarity);
    print(json_pack("{s:s, s:s, s:O?, s:O?, s:f}", "file", arguments[file], "kind", kind, "creative",
                    json_object_get(creative, "id"), "name", json_object_get(creative, "name"), "similarity",
                    round(similarity * 1e4) / 1e4));
    if (strcmp(kind, "approved")) worst = EXIT_THREAT;
  }
  return worst;
}
