/* A log line that goes into a new database, because the log was closed and its number is in use again.
 * The quarantine finds the write and keeps the database intact.
 *
 * run:
 * expect: nothing
 * prints: the database is damaged
 * run: --quarantine
 * expect: use-after-close error @open @close @write
 * prints: the database is intact
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int log_fd;

static void log_line(void) {
    if (write(log_fd, "started\n", 8) != 8) /* @write */
        fprintf(stderr, "the log cannot be written\n");
}

int main(void) {
    struct stat status;
    log_fd = open("log", O_WRONLY | O_CREAT | O_CLOEXEC, 0600); /* @open */
    log_line();
    close(log_fd); /* @close */
    int database = open("database", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    log_line();
    if (fstat(database, &status) != 0)
        return 1;
    printf("the database is %s\n", status.st_size == 0 ? "intact" : "damaged");
    close(database);
    return 0;
}
