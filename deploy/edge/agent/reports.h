/* Files that are whole or not there, and reports that lie in a folder until somebody collects them. */
#ifndef ADCLICK_EDGE_REPORTS_H
#define ADCLICK_EDGE_REPORTS_H

#include "agent.h"

char *join_path(const char *folder, const char *name);
bool make_folders(const char *path);
/* Writes a file whole or not at all; false, with errno, where the disk does not take it. */
bool write_whole(const char *folder, const char *name, json_t *content);
/* A state of the last life's; NULL if there is none, or where `is_sound` finds it damaged: then it is moved aside, and
   told. */
json_t *read_state(const char *folder, const char *name, bool (*is_sound)(json_t *));

/* The device's folder, as `Folder` of serving/edge/delivery.py names it; NULL where nobody collects reports. */
char *open_reports(const WatchOptions *options);
/* Leaves a report there, as `adclick-edge watch --reports-folder` does; false, with errno, where there is no room. */
bool leave_report(const char *reports, const char *name, const char *type, json_t *body);

/* Writes an event with the time to standard output, as serving/edge/log.py does; takes over the fields. */
void log_event(const char *event, json_t *fields);
/* An instant as ISO 8601 in UTC, with milliseconds. */
enum { TIME_BYTES = 32 };
void iso_time(char text[static TIME_BYTES]);
/* Seconds of a clock that does not jump. */
double monotonic_seconds(void);
/* A name that nobody else has: 32 hexadecimal digits. */
enum { ID_CHARACTERS = 33 };
void make_id(char text[static ID_CHARACTERS]);

#endif
