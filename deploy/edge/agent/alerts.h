/* Alerts on disk: what was raised is there after a crash, and is told at least once, with a key that makes twice
   harmless. */
#ifndef ADCLICK_EDGE_ALERTS_H
#define ADCLICK_EDGE_ALERTS_H

#include "agent.h"

typedef struct {
  const char *folder, *reports;
  /* The open alert, null if there is none; and those on their way to the reports' folder, the oldest first. */
  json_t *open, *untold;
  bool is_state_behind;
  double next_try;
  int64_t failures, dropped;
} Alerts;

/* Takes up what the last life left in the state's folder: an alert that was open is still open, and those that were on
   their way are told again. */
Alerts open_alerts(const char *folder, const char *reports);
/* Takes over an alert, of which it tells in the log; `opens` or else closes. */
void raise_alert(Alerts *alerts, json_t *alert, bool opens);
/* Writes what could not be written before, where it is time to try. */
void keep_alerts(Alerts *alerts);

#endif
