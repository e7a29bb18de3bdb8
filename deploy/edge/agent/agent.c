/* adclick-edge-agent: says what pictures show and watches a screen, as `adclick-edge` does, for players without Python. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

enum { MOST_KEYS = 16, LONGEST_HOST = 256 };
static const size_t BUNDLE_BYTES = (size_t)1 << 30;
static const char USAGE[] =
    "usage: adclick-edge-agent --bundle FILE --public-key FILE [--public-key FILE] [--minimum-version N] PICTURE...\n"
    "       adclick-edge-agent watch --bundle FILE --public-key FILE --source FOLDER --state FOLDER [--once]\n"
    "         [--frames N] [--hold SECONDS] [--device NAME] [--reports-folder FOLDER [--report SECONDS]]\n"
    "Says what pictures show, a JSON object a line; JPEGs and PNGs, - for one on standard input. Or watches a folder of\n"
    "them until SIGTERM: after N frames in a row (5) and SECONDS (0) an alert opens, and closes likewise; it is logged,\n"
    "a JSON object a line, and left in the reports' folder beside proofs of play and a heartbeat every SECONDS (60).\n"
    "Exit codes: 0 all approved, or watched; 2 wrong command or file; 3 a picture must not be shown; 4 bundle refused.\n";

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
  if (!file) return NULL;
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
  int reason = ferror(file) ? errno : 0;
  if (file != stdin) fclose(file);
  if (reason) {
    free(content);
    errno = reason;
    return NULL;
  }
  *size = held;
  return content;
}

json_t *json_text(const char *text) {
  json_t *whole = json_string(text);
  if (whole) return whole;
  char *plain = allocate(strlen(text) + 1);
  for (size_t place = 0; text[place]; place++) plain[place] = (unsigned char)text[place] < 0x80 ? text[place] : '?';
  whole = json_string(plain);
  free(plain);
  return whole;
}

void print_line(json_t *line) {
  if (json_dumpf(line, stdout, JSON_REAL_PRECISION(15)) || putchar('\n') == EOF || fflush(stdout))
    fail(EXIT_WRONG, "standard output cannot be written");
  json_decref(line);
}

/* Says what a picture shows; whether it is approved. */
static bool check(const Eye *eye, const char *path) {
  char why[LONGEST_REASON];
  size_t size;
  uint8_t *content = read_file(path, FRAME_BYTES, &size);
  if (!content) fail(EXIT_WRONG, "%s: cannot be read: %s", path, strerror(errno));
  Decision decision;
  bool is_good = look(eye, content, size, &decision, why, sizeof why);
  free(content);
  if (is_good)
    print_line(json_pack("{s:o, s:s, s:O?, s:O?, s:f}", "file", json_text(path), "kind", KIND_NAMES[decision.kind], "creative",
                         json_object_get(decision.creative, "id"), "name", json_object_get(decision.creative, "name"),
                         "similarity", round(decision.similarity * 1e4) / 1e4));
  else print_line(json_pack("{s:o, s:s, s:o}", "file", json_text(path), "kind", "broken", "reason", json_text(why)));
  return is_good && decision.kind == APPROVED;
}

static bool is_folder(const char *path) {
  struct stat status;
  return !stat(path, &status) && S_ISDIR(status.st_mode);
}

static bool is_time(double seconds) { return seconds >= 0 && isfinite(seconds); }

int main(int count, char **arguments) {
  enum { BUNDLE = 'a', KEY, MINIMUM, VERSION, HELP, SOURCE, STATE, DEVICE, FRAMES, HOLD, ONCE, REPORTS, SECONDS };
  static const struct option CHECK_OPTIONS[] = {{"bundle", required_argument, NULL, BUNDLE},
                                                {"public-key", required_argument, NULL, KEY},
                                                {"minimum-version", required_argument, NULL, MINIMUM},
                                                {"version", no_argument, NULL, VERSION},
                                                {"help", no_argument, NULL, HELP},
                                                {NULL, 0, NULL, 0}};
  static const struct option WATCH_OPTIONS[] = {{"bundle", required_argument, NULL, BUNDLE},
                                                {"public-key", required_argument, NULL, KEY},
                                                {"minimum-version", required_argument, NULL, MINIMUM},
                                                {"help", no_argument, NULL, HELP},
                                                {"source", required_argument, NULL, SOURCE},
                                                {"state", required_argument, NULL, STATE},
                                                {"device", required_argument, NULL, DEVICE},
                                                {"frames", required_argument, NULL, FRAMES},
                                                {"hold", required_argument, NULL, HOLD},
                                                {"once", no_argument, NULL, ONCE},
                                                {"reports-folder", required_argument, NULL, REPORTS},
                                                {"report", required_argument, NULL, SECONDS},
                                                {NULL, 0, NULL, 0}};
  bool watches = count > 1 && !strcmp(arguments[1], "watch");
  const struct option *known = watches ? WATCH_OPTIONS : CHECK_OPTIONS;
  char host[LONGEST_HOST] = "screen";
  gethostname(host, sizeof host - 1);
  WatchOptions watching = {.frames = 5, .report_seconds = 60, .device = host};
  const char *path = NULL, *keys[MOST_KEYS];
  size_t key_count = 0;
  int64_t minimum_version = 0;
  optind = watches ? 2 : 1;
  for (int option; (option = getopt_long(count, arguments, "", known, NULL)) != -1;) {
    char *rest = NULL;
    if (option == HELP) return fputs(USAGE, stdout) < 0;
    if (option == VERSION) return puts("adclick-edge-agent " RUNTIME_VERSION) < 0;
    if (option == BUNDLE) path = optarg;
    if (option == KEY && key_count == MOST_KEYS) fail(EXIT_WRONG, "more than %d public keys", MOST_KEYS);
    if (option == KEY) keys[key_count++] = optarg;
    if (option == MINIMUM) minimum_version = strtoll(optarg, &rest, 10);
    if (option == SOURCE) watching.source = optarg;
    if (option == STATE) watching.state = optarg;
    if (option == DEVICE) watching.device = optarg;
    if (option == FRAMES) watching.frames = strtol(optarg, &rest, 10);
    if (option == HOLD) watching.hold_seconds = strtod(optarg, &rest);
    if (option == SECONDS) watching.report_seconds = strtod(optarg, &rest);
    if (option == ONCE) watching.once = true;
    if (option == REPORTS) watching.reports_folder = optarg;
    if (option == '?' || (rest && (*rest || rest == optarg))) return fputs(USAGE, stderr), EXIT_WRONG;
  }
  bool is_whole = watches ? watching.source && watching.state && optind == count : optind < count;
  if (!path || !key_count || !is_whole || watching.frames < 1 || !is_time(watching.hold_seconds) ||
      !is_time(watching.report_seconds))
    return fputs(USAGE, stderr), EXIT_WRONG;
  if (watches && !is_folder(watching.source)) fail(EXIT_WRONG, "%s: no folder", watching.source);

  size_t size;
  uint8_t *content = read_file(path, BUNDLE_BYTES, &size);
  if (!content) fail(EXIT_WRONG, "%s: cannot be read: %s", path, strerror(errno));
  if (size > BUNDLE_BYTES) refuse("damaged", "more than %zu bytes", BUNDLE_BYTES);
  Bundle bundle = read_bundle(content, size, keys, key_count, minimum_version);
  Eye eye = open_eye(&bundle);
  if (watches) return watch(&eye, &watching);
  bool is_approved = true;
  for (int file = optind; file < count; file++) is_approved = check(&eye, arguments[file]) && is_approved;
  return is_approved ? 0 : EXIT_THREAT;
}
