/* Watches a folder of pictures: frame by frame a decision, from decisions alerts. serving/edge/sources.py and watch.py in
   C, but for proofs of play. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <openssl/rand.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "alerts.h"

enum { TIMES = 1000, ID_BYTES = 16, LONGEST_PATH = 4096 };
static const double TELL_SECONDS = 60;
static const struct timespec POLL = {.tv_nsec = 100000000};

static volatile sig_atomic_t is_stopped;

static void stop(int number) {
  (void)number;
  is_stopped = 1;
}

/* A file of the folder, for each time that it was written. */
typedef struct {
  char *name;
  int64_t time, size;
  /* Of the state that is there: whether it was given, or was broken at the last look, when it may still have been written. */
  bool is_given, is_doubtful;
} File;

typedef struct {
  File *files;
  size_t count, room;
} Listing;

typedef struct {
  const Eye *eye;
  const WatchOptions *options;
  Alerts alerts;
  Hysteresis hysteresis;
  char threat_since[TIME_BYTES];
  int64_t kinds[KINDS], broken;
  double times[TIMES], told;
  size_t time_count;
} Watcher;

static int by_name(const void *one, const void *other) { return strcmp(((const File *)one)->name, ((const File *)other)->name); }

/* Files of one tick of the file system's clock come in the order of their names. */
static int by_time(const void *one, const void *other) {
  const File *first = *(File *const *)one, *second = *(File *const *)other;
  if (first->time != second->time) return first->time < second->time ? -1 : 1;
  return strcmp(first->name, second->name);
}

static void add_file(Listing *listing, const char *name, const struct stat *status) {
  if (listing->count == listing->room) {
    listing->room = listing->room ? 2 * listing->room : 64;
    listing->files = realloc(listing->files, listing->room * sizeof *listing->files);
    if (!listing->files) fail(EXIT_WRONG, "no memory for %zu files", listing->room);
  }
  File *file = &listing->files[listing->count++];
  *file = (File){.time = (int64_t)status->st_mtim.tv_sec * 1000000000 + status->st_mtim.tv_nsec, .size = status->st_size};
  file->name = allocate(strlen(name) + 1);
  strcpy(file->name, name);
}

static void forget(Listing *listing) {
  for (size_t file = 0; file < listing->count; file++) free(listing->files[file].name);
  free(listing->files);
}

/* What the folder holds now, by name; of what is as it was, what is known of it. Dotted names are unfinished. */
static Listing list(const char *folder, Listing *before) {
  Listing listing = {0};
  DIR *stream = opendir(folder);
  if (!stream) fail(EXIT_WRONG, "%s: cannot be read: %s", folder, strerror(errno));
  for (struct dirent *entry; (entry = readdir(stream));) {
    struct stat status;
    if (entry->d_name[0] != '.' && !fstatat(dirfd(stream), entry->d_name, &status, 0) && S_ISREG(status.st_mode))
      add_file(&listing, entry->d_name, &status);
  }
  closedir(stream);
  if (listing.count) qsort(listing.files, listing.count, sizeof *listing.files, by_name);
  for (size_t place = 0; before->count && place < listing.count; place++) {
    File *file = &listing.files[place], *known = bsearch(file, before->files, before->count, sizeof *file, by_name);
    if (known && known->time == file->time && known->size == file->size) {
      file->is_given = known->is_given;
      file->is_doubtful = known->is_doubtful;
    }
  }
  forget(before);
  return listing;
}

static json_t *new_alert(const Watcher *watcher, Decision decision, const char *now) {
  uint8_t bytes[ID_BYTES];
  char id[2 * ID_BYTES + 1], key[2 * ID_BYTES + 3];
  if (RAND_bytes(bytes, sizeof bytes) != 1) fail(EXIT_WRONG, "this OpenSSL has no random numbers");
  for (size_t byte = 0; byte < sizeof bytes; byte++) sprintf(id + 2 * byte, "%02x", bytes[byte]);
  snprintf(key, sizeof key, "%s-1", id);
  return json_pack("{s:s, s:i, s:s, s:o, s:s, s:O?, s:O?, s:f, s:f, s:s, s:s, s:I, s:s}", "id", id, "revision", 1, "state",
                   "open", "device", json_text(watcher->options->device), "kind", KIND_NAMES[decision.kind], "creative",
                   json_object_get(decision.creative, "id"), "name", json_object_get(decision.creative, "name"), "similarity",
                   round(decision.similarity * 1e4) / 1e4, "threshold", watcher->eye->bundle->known, "first_time",
                   watcher->threat_since, "time", now, "bundle_version", (json_int_t)watcher->eye->bundle->version, "key", key);
}

static json_t *closed(json_t *open, const char *now) {
  json_t *alert = json_copy(open);
  char key[LONGEST_REASON];
  snprintf(key, sizeof key, "%s-2", json_string_value(json_object_get(open, "id")));
  json_object_set_new(alert, "revision", json_integer(2));
  json_object_set_new(alert, "state", json_string("closed"));
  json_object_set_new(alert, "time", json_string(now));
  json_object_set_new(alert, "key", json_string(key));
  return alert;
}

static void judge(Watcher *watcher, Decision decision, double monotonic) {
  char now[TIME_BYTES];
  iso_time(now);
  watcher->kinds[decision.kind]++;
  if (decision.kind == APPROVED) watcher->threat_since[0] = 0;
  else if (!watcher->threat_since[0]) memcpy(watcher->threat_since, now, sizeof now);
  Decision told;
  if (!turns(&watcher->hysteresis, decision, monotonic, &told)) return;
  bool opens = told.kind != APPROVED;
  raise_alert(&watcher->alerts, opens ? new_alert(watcher, told, now) : closed(watcher->alerts.open, now), opens);
}

/* Takes a file's content; false, with why, if it is broken. */
static bool take(Watcher *watcher, const uint8_t *content, size_t size, char *why, size_t longest) {
  double begin = monotonic_seconds();
  Decision decision;
  if (!look(watcher->eye, content, size, &decision, why, longest)) return false;
  judge(watcher, decision, begin);
  watcher->times[watcher->time_count++ % TIMES] = (monotonic_seconds() - begin) * 1000;
  return true;
}

static void take_broken(Watcher *watcher, const char *name, const char *why) {
  watcher->broken++;
  if (watcher->broken & (watcher->broken - 1)) return;
  char reason[LONGEST_REASON];
  snprintf(reason, sizeof reason, "%.200s: %.280s", name, why);
  log_event("broken_frame", json_pack("{s:o, s:I}", "reason", json_text(reason), "count", (json_int_t)watcher->broken));
}

static int by_size(const void *one, const void *other) {
  double first = *(const double *)one, second = *(const double *)other;
  return (first > second) - (first < second);
}

static void tell(Watcher *watcher) {
  watcher->told = monotonic_seconds();
  json_t *frames = json_object();
  for (Kind kind = 0; kind < KINDS; kind++)
    if (watcher->kinds[kind]) json_object_set_new(frames, KIND_NAMES[kind], json_integer(watcher->kinds[kind]));
  if (watcher->broken) json_object_set_new(frames, "broken", json_integer(watcher->broken));
  json_t *fields =
      json_pack("{s:o, s:I, s:{s:I}, s:I}", "frames", frames, "bundle_version", (json_int_t)watcher->eye->bundle->version,
                "waiting", "alert", (json_int_t)json_array_size(watcher->alerts.untold), "dropped_alert",
                (json_int_t)watcher->alerts.dropped);
  size_t count = watcher->time_count < TIMES ? watcher->time_count : TIMES;
  if (count) {
    double times[TIMES];
    memcpy(times, watcher->times, count * sizeof *times);
    qsort(times, count, sizeof *times, by_size);
    json_object_set_new(fields, "p50_ms", json_real(round(times[count / 2] * 100) / 100));
    json_object_set_new(fields, "p99_ms", json_real(round(times[count * 99 / 100] * 100) / 100));
  }
  log_event("watching", fields);
}

/* Gives each file that is new, in order; whether there was any. */
static bool give(Watcher *watcher, Listing *listing) {
  size_t fresh_count = 0;
  File **fresh = allocate(listing->count * sizeof *fresh);
  for (size_t place = 0; place < listing->count; place++)
    if (!listing->files[place].is_given) fresh[fresh_count++] = &listing->files[place];
  if (fresh_count) qsort(fresh, fresh_count, sizeof *fresh, by_time);
  bool was_any = false;
  for (size_t place = 0; place < fresh_count && !is_stopped; place++) {
    File *file = fresh[place];
    char path[LONGEST_PATH], why[LONGEST_REASON];
    snprintf(path, sizeof path, "%s/%s", watcher->options->source, file->name);
    size_t size;
    uint8_t *content = read_file(path, FRAME_BYTES, &size);
    if (!content) snprintf(why, sizeof why, "%s", strerror(errno));
    file->is_given = content && take(watcher, content, size, why, sizeof why);
    free(content);
    /* It may still be written; what is the same a look later is broken. */
    if (!file->is_given && (watcher->options->once || file->is_doubtful)) {
      file->is_given = true;
      take_broken(watcher, file->name, why);
    }
    file->is_doubtful = !file->is_given;
    was_any = was_any || file->is_given;
    keep_alerts(&watcher->alerts);
    if (monotonic_seconds() - watcher->told >= TELL_SECONDS) tell(watcher);
  }
  free(fresh);
  return was_any;
}

int watch(const Eye *eye, const WatchOptions *options) {
  struct sigaction action = {.sa_handler = stop};
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  Watcher watcher = {.eye = eye, .options = options, .alerts = open_alerts(options), .told = monotonic_seconds()};
  watcher.hysteresis = (Hysteresis){
      .frames = options->frames, .hold_seconds = options->hold_seconds, .is_open = !json_is_null(watcher.alerts.open)};
  log_event("started", json_pack("{s:o, s:s, s:I, s:s, s:I, s:b}", "device", json_text(options->device), "runtime",
                                 "c " RUNTIME_VERSION, "bundle_version", (json_int_t)eye->bundle->version, "sha256",
                                 eye->bundle->sha256, "process", (json_int_t)getpid(), "alert_open", watcher.hysteresis.is_open));
  Listing listing = {0};
  while (!is_stopped) {
    listing = list(options->source, &listing);
    bool was_any = give(&watcher, &listing);
    if (options->once) break;
    keep_alerts(&watcher.alerts);
    if (monotonic_seconds() - watcher.told >= TELL_SECONDS) tell(&watcher);
    if (!was_any) nanosleep(&POLL, NULL);
  }
  forget(&listing);
  tell(&watcher);
  log_event("stopped", json_pack("{s:{s:I}}", "waiting", "alert", (json_int_t)json_array_size(watcher.alerts.untold)));
  return 0;
}
