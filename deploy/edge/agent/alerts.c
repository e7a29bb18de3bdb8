#include "alerts.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* So many alerts are kept while nobody takes them. */
enum { MOST_UNTOLD = 1000, LONGEST_NAME = 256 };
/* So many bytes of reports may lie in a folder until somebody collects them. */
static const int64_t MOST_COLLECTED = (int64_t)64 << 20;
static const size_t STATE_BYTES = (size_t)16 << 20;
static const double RETRY_SECONDS = 1;

void iso_time(char text[static TIME_BYTES]) {
  struct timespec now;
  struct tm parts;
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &parts);
  size_t end = strftime(text, TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &parts);
  snprintf(text + end, TIME_BYTES - end, ".%03u+00:00", (unsigned int)(now.tv_nsec / 1000000) % 1000);
}

double monotonic_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void log_event(const char *event, json_t *fields) {
  char time[TIME_BYTES];
  iso_time(time);
  json_t *line = json_pack("{s:s, s:s}", "time", time, "event", event);
  json_object_update_missing(line, fields);
  json_decref(fields);
  print_line(line);
}

static char *joined(const char *folder, const char *name) {
  size_t size = strlen(folder) + strlen(name) + 2;
  char *path = allocate(size);
  snprintf(path, size, "%s/%s", folder, name);
  return path;
}

/* A device's folder, as `Folder` of serving/edge/delivery.py names it. */
static char *device_folder(const char *reports_folder, const char *device) {
  char *path = joined(reports_folder, device);
  for (char *letter = path + strlen(reports_folder) + 1; *letter; letter++) {
    bool is_ascii = (unsigned char)*letter < 0x80;
    if (is_ascii && !isalnum((unsigned char)*letter) && !strchr("-_.", *letter)) *letter = '_';
  }
  return path;
}

static bool make_folders(const char *path) {
  char *part = joined(path, "");
  bool is_there = true;
  for (char *slash = strchr(part + 1, '/'); slash && is_there; slash = strchr(slash + 1, '/')) {
    *slash = 0;
    is_there = !mkdir(part, 0777) || errno == EEXIST;
    *slash = '/';
  }
  free(part);
  return is_there;
}

static bool sync_to_disk(const char *path, int flags) {
  int file = open(path, flags);
  bool is_good = file >= 0 && !fsync(file);
  if (file >= 0) close(file);
  return is_good;
}

/* Writes a file whole or not at all; false, with errno, where the disk does not take it. */
static bool write_whole(const char *folder, const char *partial, const char *path, json_t *content) {
  errno = 0;
  if (!json_dump_file(content, partial, JSON_REAL_PRECISION(15)) && sync_to_disk(partial, O_RDONLY) &&
      !rename(partial, path) && sync_to_disk(folder, O_RDONLY | O_DIRECTORY))
    return true;
  int reason = errno;
  unlink(partial);
  errno = reason;
  return false;
}

static bool write_state(Alerts *alerts) {
  json_t *state = json_pack("{s:O, s:O}", "open", alerts->open, "untold", alerts->untold);
  alerts->is_state_behind = !write_whole(alerts->state_folder, alerts->state_partial, alerts->state_file, state);
  json_decref(state);
  return !alerts->is_state_behind;
}

static bool is_alert(json_t *alert) { return json_is_string(json_object_get(alert, "key")); }

static bool is_state(json_t *state) {
  json_t *open = json_object_get(state, "open"), *untold = json_object_get(state, "untold"), *alert;
  size_t place;
  json_array_foreach(untold, place, alert) if (!is_alert(alert)) return false;
  return json_is_array(untold) && (json_is_null(open) || (is_alert(open) && json_is_string(json_object_get(open, "id"))));
}

/* What the last life left; NULL if nothing. */
static json_t *read_state(const Alerts *alerts) {
  size_t size;
  uint8_t *content = read_file(alerts->state_file, STATE_BYTES, &size);
  if (!content && errno == ENOENT) return NULL;
  if (!content) fail(EXIT_WRONG, "%s: cannot be read: %s", alerts->state_file, strerror(errno));
  json_t *state = json_loadb((const char *)content, size, 0, NULL);
  free(content);
  if (is_state(state)) return state;
  json_decref(state);
  char *aside = joined(alerts->state_folder, "alerts.json.damaged");
  if (rename(alerts->state_file, aside)) fail(EXIT_WRONG, "%s: cannot be moved aside: %s", alerts->state_file, strerror(errno));
  log_event("state_damaged", json_pack("{s:o}", "moved_to", json_text(aside)));
  free(aside);
  return NULL;
}

static int64_t bytes_in(const char *folder) {
  DIR *listing = opendir(folder);
  if (!listing) return 0;
  int64_t bytes = 0;
  for (struct dirent *entry; (entry = readdir(listing));) {
    struct stat status;
    if (!fstatat(dirfd(listing), entry->d_name, &status, 0) && S_ISREG(status.st_mode)) bytes += status.st_size;
  }
  closedir(listing);
  return bytes;
}

/* Leaves an alert where it is collected, as `adclick-edge watch --reports-folder` does. */
static bool leave_report(const Alerts *alerts, json_t *alert) {
  if (!alerts->reports_folder) return true;
  if (!make_folders(alerts->reports_folder)) return false;
  if (bytes_in(alerts->reports_folder) > MOST_COLLECTED) return errno = EDQUOT, false;
  char name[LONGEST_NAME];
  const char *key = json_string_value(json_object_get(alert, "key"));
  snprintf(name, sizeof name, ".%s.partial", key);
  char *partial = joined(alerts->reports_folder, name);
  snprintf(name, sizeof name, "%s.json", key);
  char *path = joined(alerts->reports_folder, name);
  json_t *report = json_pack("{s:s}", "type", "alert");
  json_object_update(report, alert);
  bool is_good = write_whole(alerts->reports_folder, partial, path, report);
  json_decref(report);
  free(partial);
  free(path);
  return is_good;
}

static void tell(json_t *alert, bool is_kept) {
  json_t *fields = json_copy(alert);
  /* The line has a time of its own. */
  json_object_del(fields, "time");
  json_object_set_new(fields, "kept", json_boolean(is_kept));
  log_event("alert", fields);
}

/* Gives what waits to whoever collects it. What comes after a crash between two of these steps, comes twice. */
static void hand_over(Alerts *alerts) {
  bool is_good = !alerts->is_state_behind || write_state(alerts);
  int reason = errno;
  size_t told = 0;
  while (json_array_size(alerts->untold) && leave_report(alerts, json_array_get(alerts->untold, 0))) {
    json_array_remove(alerts->untold, 0);
    told++;
  }
  if (json_array_size(alerts->untold)) is_good = false, reason = errno;
  if (told && !write_state(alerts)) is_good = false, reason = errno;
  alerts->failures = is_good ? 0 : alerts->failures + 1;
  alerts->next_try = monotonic_seconds() + RETRY_SECONDS;
  /* At each power of two: a day with a full disk is no flood in the log. */
  if (!is_good && (alerts->failures & (alerts->failures - 1)) == 0)
    log_event("not_written", json_pack("{s:s, s:I, s:I}", "reason", strerror(reason), "alerts",
                                       (json_int_t)json_array_size(alerts->untold), "attempts", (json_int_t)alerts->failures));
}

Alerts open_alerts(const WatchOptions *options) {
  Alerts alerts = {.state_folder = joined(options->state, "")};
  alerts.state_file = joined(options->state, "alerts.json");
  alerts.state_partial = joined(options->state, ".alerts.json.partial");
  if (options->reports_folder) alerts.reports_folder = device_folder(options->reports_folder, options->device);
  if (!make_folders(options->state)) fail(EXIT_WRONG, "%s: cannot be made: %s", options->state, strerror(errno));
  json_t *state = read_state(&alerts);
  alerts.open = state ? json_incref(json_object_get(state, "open")) : json_null();
  alerts.untold = state ? json_incref(json_object_get(state, "untold")) : json_array();
  json_decref(state);
  if (!write_state(&alerts)) fail(EXIT_WRONG, "%s: cannot be written: %s", alerts.state_file, strerror(errno));
  size_t place;
  json_t *alert;
  json_array_foreach(alerts.untold, place, alert) tell(alert, true);
  hand_over(&alerts);
  return alerts;
}

void raise_alert(Alerts *alerts, json_t *alert, bool opens) {
  json_decref(alerts->open);
  alerts->open = opens ? json_incref(alert) : json_null();
  json_array_append_new(alerts->untold, alert);
  if (json_array_size(alerts->untold) > MOST_UNTOLD) {
    alerts->dropped++;
    log_event("alert_lost", json_pack("{s:O}", "alert", json_array_get(alerts->untold, 0)));
    json_array_remove(alerts->untold, 0);
  }
  /* Told when it is on disk: what the log says was kept is never lost. */
  tell(alert, write_state(alerts));
  hand_over(alerts);
}

void keep_alerts(Alerts *alerts) {
  if ((alerts->is_state_behind || json_array_size(alerts->untold)) && monotonic_seconds() >= alerts->next_try) hand_over(alerts);
}
