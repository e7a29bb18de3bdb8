#include "plays.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "reports.h"

/* So many rows are kept while nobody takes them; then the oldest go, and are counted. */
enum { MOST_ROWS = 10000, HOUR_BYTES = 32, SECONDS_AN_HOUR = 3600 };
static const double FLUSH_SECONDS = 10;
/* A longer time between two frames is not counted as shown: nobody looked. */
static const double LONGEST_GAP_SECONDS = 5;
static const char STATE[] = "plays.json";

static void this_hour(char text[static HOUR_BYTES]) {
  time_t now = time(NULL) / SECONDS_AN_HOUR * SECONDS_AN_HOUR;
  struct tm parts;
  gmtime_r(&now, &parts);
  strftime(text, HOUR_BYTES, "%Y-%m-%dT%H:00:00Z", &parts);
}

static bool is_of(json_t *row, const char *field, const char *value) {
  const char *text = json_string_value(json_object_get(row, field));
  return text && !strcmp(text, value);
}

static bool is_sound(json_t *rows) {
  size_t place;
  json_t *row;
  json_array_foreach(rows, place, row)
    if (!json_is_string(json_object_get(row, "key")) || !json_is_string(json_object_get(row, "creative")) ||
        !json_is_string(json_object_get(row, "hour")) || !json_is_integer(json_object_get(row, "frames")) ||
        !json_is_real(json_object_get(row, "seconds")))
      return false;
  return json_is_array(rows);
}

Plays open_plays(const char *folder, const char *reports) {
  Plays plays = {.folder = folder, .reports = reports, .flushed = monotonic_seconds()};
  plays.rows = read_state(folder, STATE, is_sound);
  if (!plays.rows) plays.rows = json_array();
  return plays;
}

static json_t *new_row(const char *creative, const char *hour, const char *device, int64_t bundle_version) {
  char key[ID_CHARACTERS];
  make_id(key);
  return json_pack("{s:o, s:I, s:s, s:s, s:s, s:i, s:f}", "device", json_text(device), "bundle_version",
                   (json_int_t)bundle_version, "key", key, "creative", creative, "hour", hour, "frames", 0, "seconds", 0.0);
}

void count_play(Plays *plays, const char *creative, double monotonic, const char *device, int64_t bundle_version) {
  bool is_same = plays->last && !strcmp(plays->last, creative);
  double elapsed = is_same ? monotonic - plays->last_time : 0;
  plays->last = creative;
  plays->last_time = monotonic;
  char hour[HOUR_BYTES];
  this_hour(hour);
  json_t *row = NULL;
  /* From the end, where the hour that runs is. */
  for (size_t place = json_array_size(plays->rows); place-- && !row;) {
    json_t *known = json_array_get(plays->rows, place);
    if (!is_of(known, "hour", hour)) break;
    if (is_of(known, "creative", creative)) row = known;
  }
  if (!row) {
    row = new_row(creative, hour, device, bundle_version);
    json_array_append_new(plays->rows, row);
  }
  json_t *frames = json_object_get(row, "frames"), *seconds = json_object_get(row, "seconds");
  json_integer_set(frames, json_integer_value(frames) + 1);
  if (elapsed <= LONGEST_GAP_SECONDS) json_real_set(seconds, json_real_value(seconds) + elapsed);
  plays->is_changed = true;
}

static bool leave(const Plays *plays, json_t *row) {
  json_t *play = json_copy(row);
  json_object_set_new(play, "seconds", json_real(round(json_real_value(json_object_get(row, "seconds")) * 1e3) / 1e3));
  bool is_good = leave_report(plays->reports, json_string_value(json_object_get(row, "key")), "play", play);
  int reason = errno;
  json_decref(play);
  errno = reason;
  return is_good;
}

void keep_plays(Plays *plays, bool now) {
  if (!now && monotonic_seconds() - plays->flushed < FLUSH_SECONDS) return;
  plays->flushed = monotonic_seconds();
  char hour[HOUR_BYTES];
  this_hour(hour);
  bool is_good = true;
  for (; json_array_size(plays->rows) && is_good; plays->is_changed = true) {
    json_t *oldest = json_array_get(plays->rows, 0);
    if (is_of(oldest, "hour", hour)) break;
    is_good = leave(plays, oldest);
    if (is_good) json_array_remove(plays->rows, 0);
  }
  for (; json_array_size(plays->rows) > MOST_ROWS; plays->dropped++) json_array_remove(plays->rows, 0);
  int reason = errno;
  if (plays->is_changed && !write_whole(plays->folder, STATE, plays->rows)) {
    is_good = false;
    reason = errno;
  } else plays->is_changed = false;
  if (!is_good)
    log_event("not_written", json_pack("{s:s, s:I}", "reason", strerror(reason), "plays", (json_int_t)json_array_size(plays->rows)));
}
