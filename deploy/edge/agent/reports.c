#include "reports.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* So many bytes of reports may lie in a folder. */
static const int64_t MOST_COLLECTED = (int64_t)64 << 20;
static const size_t STATE_BYTES = (size_t)64 << 20;
enum { LONGEST_NAME = 256 };

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

void make_id(char text[static ID_CHARACTERS]) {
  uint8_t bytes[(ID_CHARACTERS - 1) / 2];
  if (RAND_bytes(bytes, sizeof bytes) != 1) fail(EXIT_WRONG, "this OpenSSL has no random numbers");
  for (size_t byte = 0; byte < sizeof bytes; byte++) sprintf(text + 2 * byte, "%02x", bytes[byte]);
}

void log_event(const char *event, json_t *fields) {
  char time[TIME_BYTES];
  iso_time(time);
  json_t *line = json_pack("{s:s, s:s}", "time", time, "event", event);
  json_object_update_missing(line, fields);
  json_decref(fields);
  print_line(line);
}

char *join_path(const char *folder, const char *name) {
  size_t size = strlen(folder) + strlen(name) + 2;
  char *path = allocate(size);
  snprintf(path, size, "%s/%s", folder, name);
  return path;
}

bool make_folders(const char *path) {
  char *part = join_path(path, "");
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

bool write_whole(const char *folder, const char *name, json_t *content) {
  char hidden[LONGEST_NAME];
  snprintf(hidden, sizeof hidden, ".%s.partial", name);
  char *partial = join_path(folder, hidden), *path = join_path(folder, name);
  errno = 0;
  bool is_good = !json_dump_file(content, partial, JSON_REAL_PRECISION(15)) && sync_to_disk(partial, O_RDONLY) &&
                 !rename(partial, path) && sync_to_disk(folder, O_RDONLY | O_DIRECTORY);
  int reason = errno;
  if (!is_good) unlink(partial);
  free(partial);
  free(path);
  errno = reason;
  return is_good;
}

json_t *read_state(const char *folder, const char *name, bool (*is_sound)(json_t *)) {
  char *path = join_path(folder, name);
  size_t size;
  uint8_t *content = read_file(path, STATE_BYTES, &size);
  if (!content && errno != ENOENT) fail(EXIT_WRONG, "%s: cannot be read: %s", path, strerror(errno));
  json_t *state = content ? json_loadb((const char *)content, size, 0, NULL) : NULL;
  if (content && !is_sound(state)) {
    json_decref(state);
    state = NULL;
    char aside_name[LONGEST_NAME];
    snprintf(aside_name, sizeof aside_name, "%s.damaged", name);
    char *aside = join_path(folder, aside_name);
    if (rename(path, aside)) fail(EXIT_WRONG, "%s: cannot be moved aside: %s", path, strerror(errno));
    log_event("state_damaged", json_pack("{s:o}", "moved_to", json_text(aside)));
    free(aside);
  }
  free(content);
  free(path);
  return state;
}

char *open_reports(const WatchOptions *options) {
  if (!options->reports_folder) return NULL;
  char *path = join_path(options->reports_folder, options->device);
  for (char *letter = path + strlen(options->reports_folder) + 1; *letter; letter++) {
    bool is_ascii = (unsigned char)*letter < 0x80;
    if (is_ascii && !isalnum((unsigned char)*letter) && !strchr("-_.", *letter)) *letter = '_';
  }
  return path;
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

bool leave_report(const char *reports, const char *name, const char *type, json_t *body) {
  if (!reports) return true;
  if (!make_folders(reports)) return false;
  if (bytes_in(reports) > MOST_COLLECTED) return errno = EDQUOT, false;
  char file[LONGEST_NAME];
  snprintf(file, sizeof file, "%s.json", name);
  json_t *report = json_pack("{s:s}", "type", type);
  json_object_update(report, body);
  bool is_good = write_whole(reports, file, report);
  int reason = errno;
  json_decref(report);
  errno = reason;
  return is_good;
}
