/* Watches a folder of pictures: frame by frame a decision, from decisions alerts and proofs of play; and says how it
   fares. serving/edge/sources.py, watch.py and reports.py in C. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "alerts.h"
#include "plays.h"
#include "reports.h"

enum { TIMES = 1000, LONGEST_PATH = 4096, MOST_SENSORS = 64 };
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
  char *reports, boot[ID_CHARACTERS];
  Alerts alerts;
  Plays plays;
  Hysteresis hysteresis;
  char threat_since[TIME_BYTES];
  int64_t kinds[KINDS], broken, recognised, heartbeats, beat_failures, frames_at_beat;
  double times[TIMES], similarity_sum, told, begun, beaten;
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
  char id[ID_CHARACTERS], key[ID_CHARACTERS + 2];
  make_id(id);
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
  if (decision.creative) {
    watcher->recognised++;
    watcher->similarity_sum += decision.similarity;
  }
  if (decision.kind == APPROVED)
    count_play(&watcher->plays, json_string_value(json_object_get(decision.creative, "id")), monotonic, watcher->options->device,
               watcher->eye->bundle->version);
  else watcher->plays.last = NULL;
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
  watcher->plays.last = NULL;
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

/* What the log and a heartbeat say alike; counts begin with the process. */
static json_t *status(const Watcher *watcher) {
  json_t *frames = json_object();
  for (Kind kind = 0; kind < KINDS; kind++)
    if (watcher->kinds[kind]) json_object_set_new(frames, KIND_NAMES[kind], json_integer(watcher->kinds[kind]));
  if (watcher->broken) json_object_set_new(frames, "broken", json_integer(watcher->broken));
  json_t *fields = json_pack("{s:o, s:I, s:{s:I}}", "frames", frames, "bundle_version", (json_int_t)watcher->eye->bundle->version,
                             "waiting", "alert", (json_int_t)json_array_size(watcher->alerts.untold));
  size_t count = watcher->time_count < TIMES ? watcher->time_count : TIMES;
  if (count) {
    double times[TIMES];
    memcpy(times, watcher->times, count * sizeof *times);
    qsort(times, count, sizeof *times, by_size);
    json_object_set_new(fields, "p50_ms", json_real(round(times[count / 2] * 100) / 100));
    json_object_set_new(fields, "p99_ms", json_real(round(times[count * 99 / 100] * 100) / 100));
  }
  return fields;
}

static json_t *dropped(const Watcher *watcher) {
  return json_pack("{s:I, s:I}", "dropped_alert", (json_int_t)watcher->alerts.dropped, "dropped_play",
                   (json_int_t)watcher->plays.dropped);
}

static void tell(Watcher *watcher) {
  watcher->told = monotonic_seconds();
  json_t *fields = status(watcher), *counts = dropped(watcher);
  json_object_update(fields, counts);
  json_decref(counts);
  log_event("watching", fields);
}

/* The hottest of the system's sensors in degrees Celsius, null if there is none (Linux, sysfs-class-thermal). */
static json_t *temperature(void) {
  double hottest = NAN;
  for (int sensor = 0; sensor < MOST_SENSORS; sensor++) {
    char path[LONGEST_REASON];
    double thousandths;
    snprintf(path, sizeof path, "/sys/class/thermal/thermal_zone%d/temp", sensor);
    FILE *file = fopen(path, "r");
    if (!file) continue;
    if (fscanf(file, "%lf", &thousandths) == 1) hottest = fmax(hottest, thousandths / 1000);
    fclose(file);
  }
  return isnan(hottest) ? json_null() : json_real(hottest);
}

/* The resident memory of this process; null where the system does not say (Linux, proc(5)). */
static json_t *memory_bytes(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  bool is_known = file && fscanf(file, "%*d %ld", &pages) == 1;
  if (file) fclose(file);
  return is_known ? json_integer((json_int_t)pages * sysconf(_SC_PAGESIZE)) : json_null();
}

static json_t *disk_free_bytes(const char *folder) {
  struct statvfs disk;
  return statvfs(folder, &disk) ? json_null() : json_integer((json_int_t)disk.f_bavail * (json_int_t)disk.f_frsize);
}

/* Leaves a heartbeat in the place of the last one, where it is time or this is the last; one that finds no room is told. */
static void beat(Watcher *watcher, bool now) {
  double monotonic = monotonic_seconds();
  bool is_first = watcher->heartbeats == 0;
  if (!watcher->reports || (!now && !is_first && monotonic - watcher->beaten < watcher->options->report_seconds)) return;
  int64_t frames = watcher->broken;
  for (Kind kind = 0; kind < KINDS; kind++) frames += watcher->kinds[kind];
  double since = is_first ? monotonic - watcher->begun : monotonic - watcher->beaten;
  char time[TIME_BYTES], key[ID_CHARACTERS + 24];
  iso_time(time);
  snprintf(key, sizeof key, "%s-%lld", watcher->boot, (long long)++watcher->heartbeats);
  json_t *body = json_pack(
      "{s:s, s:o, s:s, s:I, s:s, s:f, s:s, s:o, s:o, s:n, s:o, s:s, s:f, s:I, s:f, s:b, s:o}", "key", key, "device",
      json_text(watcher->options->device), "boot", watcher->boot, "sequence", (json_int_t)watcher->heartbeats, "time", time,
      "uptime_seconds", round((monotonic - watcher->begun) * 10) / 10, "runtime", RUNTIME_VERSION, "temperature_celsius",
      temperature(), "memory_bytes", memory_bytes(), "channel", "disk_free_bytes", disk_free_bytes(watcher->options->state),
      "bundle_sha256", watcher->eye->bundle->sha256, "frames_a_second",
      round((double)(frames - watcher->frames_at_beat) / fmax(since, 1e-3) * 100) / 100, "recognised",
      (json_int_t)watcher->recognised, "similarity_sum", round(watcher->similarity_sum * 1e4) / 1e4, "alert_open",
      !json_is_null(watcher->alerts.open), "dropped", dropped(watcher));
  json_t *more = status(watcher);
  json_object_update(body, more);
  json_decref(more);
  watcher->frames_at_beat = frames;
  watcher->beaten = monotonic;
  bool is_good = leave_report(watcher->reports, "heartbeat", "heartbeat", body);
  watcher->beat_failures = is_good ? 0 : watcher->beat_failures + 1;
  /* At each power of two, as a device may stand so for weeks. */
  if (!is_good && (watcher->beat_failures & (watcher->beat_failures - 1)) == 0)
    log_event("no_heartbeat", json_pack("{s:s}", "reason", strerror(errno)));
  json_decref(body);
}

/* What is due between two frames. */
static void keep(Watcher *watcher) {
  keep_alerts(&watcher->alerts);
  keep_plays(&watcher->plays, false);
  beat(watcher, false);
  if (monotonic_seconds() - watcher->told >= TELL_SECONDS) tell(watcher);
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
    keep(watcher);
  }
  free(fresh);
  return was_any;
}

int watch(const Eye *eye, const WatchOptions *options) {
  struct sigaction action = {.sa_handler = stop};
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  if (!make_folders(options->state)) fail(EXIT_WRONG, "%s: cannot be made: %s", options->state, strerror(errno));
  char *reports = open_reports(options);
  Watcher watcher = {
      .eye = eye,
      .options = options,
      .reports = reports,
      .alerts = open_alerts(options->state, reports),
      .plays = open_plays(options->state, reports),
      .told = monotonic_seconds(),
      .begun = monotonic_seconds(),
  };
  /* Counts begin at zero with each start; its name says which counts go on from which. */
  make_id(watcher.boot);
  watcher.hysteresis = (Hysteresis){
      .frames = options->frames, .hold_seconds = options->hold_seconds, .is_open = !json_is_null(watcher.alerts.open)};
  log_event("started", json_pack("{s:o, s:s, s:I, s:s, s:I, s:b}", "device", json_text(options->device), "runtime",
                                 RUNTIME_VERSION, "bundle_version", (json_int_t)eye->bundle->version, "sha256",
                                 eye->bundle->sha256, "process", (json_int_t)getpid(), "alert_open", watcher.hysteresis.is_open));
  Listing listing = {0};
  while (!is_stopped) {
    listing = list(options->source, &listing);
    bool was_any = give(&watcher, &listing);
    if (options->once) break;
    keep(&watcher);
    if (!was_any) nanosleep(&POLL, NULL);
  }
  forget(&listing);
  keep_plays(&watcher.plays, true);
  beat(&watcher, true);
  tell(&watcher);
  log_event("stopped", json_pack("{s:{s:I}}", "waiting", "alert", (json_int_t)json_array_size(watcher.alerts.untold)));
  return 0;
}
