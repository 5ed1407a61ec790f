/* A reader that forgets its file when the content is wrong. The same line opens files that are closed.
 *
 * run:
 * expect: leak warning x3 @open
 */
#include <fcntl.h>
#include <unistd.h>

static void make(const char *path, char content) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, &content, 1) != 1)
        _exit(1);
    close(fd);
}

static int is_valid(const char *path) {
    char first;
    int fd = open(path, O_RDONLY | O_CLOEXEC); /* @open */
    if (read(fd, &first, 1) != 1 || first != 'v')
        return 0;
    close(fd);
    return 1;
}

int main(void) {
    make("good", 'v');
    make("bad", 'x');
    int valid = 0;
    for (int i = 0; i < 10; i++)
        valid += is_valid(i % 3 == 1 ? "bad" : "good");
    return valid == 7 ? 0 : 1;
}
