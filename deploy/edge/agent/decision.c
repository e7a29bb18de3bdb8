/* What a frame shows, by the embedding's nearest creative, and when that is an alert: serving/edge/decision.py in C. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent.h"

const char *const KIND_NAMES[KINDS] = {"approved", "early", "expired", "unknown", "forbidden"};

Eye open_eye(const Bundle *bundle) {
  Eye eye = {.bundle = bundle};
  size_t dimension;
  eye.recogniser = load_recogniser(bundle->model, &eye.side, &dimension);
  if (dimension != bundle->dimension)
    refuse("unfit", "the recogniser gives %zu numbers, the catalogue has %zu", dimension, bundle->dimension);
  eye.pixels = allocate(eye.side * eye.side * 3 * sizeof *eye.pixels);
  eye.embedding = allocate(dimension * sizeof *eye.embedding);
  return eye;
}

/* The row of greatest cosine similarity; -1 of an empty catalogue, and of an embedding that holds no numbers. */
static long nearest(const Bundle *bundle, const float *embedding, double *similarity) {
  long best = -1;
  *similarity = -1;
  for (size_t row = 0; row < bundle->count; row++) {
    const int8_t *values = (const int8_t *)bundle->embeddings.content + row * bundle->dimension;
    float scale, product = 0;
    memcpy(&scale, bundle->scales.content + row * sizeof scale, sizeof scale);
    for (size_t place = 0; place < bundle->dimension; place++) product += (float)values[place] * embedding[place];
    if (product * scale > *similarity) {
      *similarity = product * scale;
      best = (long)row;
    }
  }
  return best;
}

static Decision decide(const Bundle *bundle, const float *embedding) {
  Decision decision = {.kind = UNKNOWN};
  long row = nearest(bundle, embedding, &decision.similarity);
  if (row < 0 || !(decision.similarity >= bundle->known)) return decision;
  decision.creative = json_array_get(bundle->creatives, (size_t)row);
  /* A clock that stands before the bundle was made is wrong; bookings are judged as of then. */
  double now = fmax((double)time(NULL), (double)bundle->created);
  json_t *from = json_object_get(decision.creative, "valid_from"), *until = json_object_get(decision.creative, "valid_until");
  decision.kind = json_is_true(json_object_get(decision.creative, "forbidden")) ? FORBIDDEN
                  : json_is_number(from) && now < json_number_value(from)       ? EARLY
                  : json_is_number(until) && now >= json_number_value(until)    ? EXPIRED
                                                                                : APPROVED;
  return decision;
}

bool look(const Eye *eye, const uint8_t *content, size_t size, Decision *decision, char *why, size_t longest) {
  if (size > FRAME_BYTES) {
    snprintf(why, longest, "more than %zu bytes", FRAME_BYTES);
    return false;
  }
  if (!prepare(content, size, eye->side, eye->pixels, why, longest)) return false;
  embed(eye->recogniser, eye->pixels, eye->embedding);
  *decision = decide(eye->bundle, eye->embedding);
  return true;
}

static void forget_streak(Hysteresis *hysteresis) {
  hysteresis->streak = 0;
  memset(hysteresis->counts, 0, sizeof hysteresis->counts);
}

bool turns(Hysteresis *hysteresis, Decision decision, double monotonic, Decision *told) {
  bool is_threat = decision.kind != APPROVED;
  if (is_threat == hysteresis->is_open) {
    forget_streak(hysteresis);
    return false;
  }
  if (hysteresis->streak == 0) hysteresis->since = monotonic;
  hysteresis->streak++;
  hysteresis->counts[decision.kind]++;
  hysteresis->examples[decision.kind] = decision;
  if (hysteresis->streak < hysteresis->frames || monotonic - hysteresis->since < hysteresis->hold_seconds) return false;
  hysteresis->is_open = is_threat;
  Kind commonest = decision.kind;
  for (Kind kind = 0; kind < KINDS; kind++)
    if (hysteresis->counts[kind] >= hysteresis->counts[commonest]) commonest = kind;
  *told = hysteresis->examples[commonest];
  forget_streak(hysteresis);
  return true;
}
