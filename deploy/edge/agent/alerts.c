#include "alerts.h"

#include <errno.h>
#include <string.h>

#include "reports.h"

/* So many alerts are kept while nobody takes them. */
enum { MOST_UNTOLD = 1000 };
static const double RETRY_SECONDS = 1;
static const char STATE[] = "alerts.json";

static bool write_state(Alerts *alerts) {
  json_t *state = json_pack("{s:O, s:O}", "open", alerts->open, "untold", alerts->untold);
  alerts->is_state_behind = !write_whole(alerts->folder, STATE, state);
  json_decref(state);
  return !alerts->is_state_behind;
}

static bool is_alert(json_t *alert) { return json_is_string(json_object_get(alert, "key")); }

static bool is_sound(json_t *state) {
  json_t *open = json_object_get(state, "open"), *untold = json_object_get(state, "untold"), *alert;
  size_t place;
  json_array_foreach(untold, place, alert) if (!is_alert(alert)) return false;
  return json_is_array(untold) && (json_is_null(open) || (is_alert(open) && json_is_string(json_object_get(open, "id"))));
}

static bool leave(const Alerts *alerts, json_t *alert) {
  return leave_report(alerts->reports, json_string_value(json_object_get(alert, "key")), "alert", alert);
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
  while (json_array_size(alerts->untold) && leave(alerts, json_array_get(alerts->untold, 0))) {
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

Alerts open_alerts(const char *folder, const char *reports) {
  Alerts alerts = {.folder = folder, .reports = reports};
  json_t *state = read_state(folder, STATE, is_sound);
  alerts.open = state ? json_incref(json_object_get(state, "open")) : json_null();
  alerts.untold = state ? json_incref(json_object_get(state, "untold")) : json_array();
  json_decref(state);
  /* A disk that is full now may have room later, and the screen is watched meanwhile. */
  if (!write_state(&alerts) && errno != ENOSPC && errno != EDQUOT)
    fail(EXIT_WRONG, "%s: cannot be written: %s", folder, strerror(errno));
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
