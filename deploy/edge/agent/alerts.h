/* Alerts on disk: what was raised is there after a crash, and is told at least once, with a key that makes twice
   harmless. */
#ifndef ADCLICK_EDGE_ALERTS_H
#define ADCLICK_EDGE_ALERTS_H

#include "agent.h"

typedef struct {
  char *state_folder, *state_file, *state_partial, *reports_folder;
  /* The open alert, null if there is none; and those on their way to the reports' folder, the oldest first. */
  json_t *open, *untold;
  bool is_state_behind;
  double next_try;
  int64_t failures, dropped;
} Alerts;

/* Opens a state folder, which is made. An alert that was open when the agent last ended is still open, and those that
   were on their way then are told again. A state that is damaged is moved aside, and told. */
Alerts open_alerts(const WatchOptions *options);
/* Takes over an alert, of which it tells in the log; `opens` or else closes. */
void raise_alert(Alerts *alerts, json_t *alert, bool opens);
/* Writes what could not be written before, where it is time to try. */
void keep_alerts(Alerts *alerts);

/* Writes an event with the time to standard output, as serving/edge/log.py does; takes over the fields. */
void log_event(const char *event, json_t *fields);
/* An instant as ISO 8601 in UTC, with milliseconds. */
enum { TIME_BYTES = 32 };
void iso_time(char text[static TIME_BYTES]);
/* Seconds of a clock that does not jump. */
double monotonic_seconds(void);

#endif
