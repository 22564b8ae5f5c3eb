/* What this process may do with a path, before it does it. Nothing is opened or made. */
#ifndef SINKD_BASE_FILE_H
#define SINKD_BASE_FILE_H

/* Can the file be read? A folder cannot. Returns 0, or -1 with errno set. */
int file_check_read(const char *path);

/* Can the file be written, or made where it is not there yet? Returns 0, or -1 with errno set. */
int file_check_write(const char *path);

#endif
