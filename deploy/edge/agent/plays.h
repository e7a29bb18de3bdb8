/* Proofs of play: how long each creative was shown in each hour, as serving/edge/outbox.py adds them up. */
#ifndef ADCLICK_EDGE_PLAYS_H
#define ADCLICK_EDGE_PLAYS_H

#include "agent.h"

typedef struct {
  const char *folder, *reports;
  /* Objects with key, creative, hour, frames, seconds, device and bundle_version; those of the hour that runs last. */
  json_t *rows;
  /* What was shown in the last frame, NULL if no booked creative; and when that was. */
  const char *last;
  double last_time, flushed;
  bool is_changed;
  int64_t dropped;
} Plays;

/* Takes up what the last life left in the state's folder. */
Plays open_plays(const char *folder, const char *reports);
/* Counts a frame that shows a creative; its id lives as long as the bundle. */
void count_play(Plays *plays, const char *creative, double monotonic, const char *device, int64_t bundle_version);
/* Every ten seconds, or now: writes to disk what was counted, and leaves the hours that are over where they are collected. */
void keep_plays(Plays *plays, bool now);

#endif
