// Allocates and frees in small steps for about as many milliseconds as the argument says, then prints how often.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **arguments) {
    int milliseconds = count > 1 ? atoi(arguments[1]) : 0;
    void *kept[256] = {0};
    for (int i = 0; i < milliseconds; i++) {
        for (int j = 0; j < 100; j++) {
            void **slot = &kept[(i * 31 + j * 7) % 256];
            free(*slot);
            *slot = malloc(i % 1000 + 1);
            memset(*slot, 1, i % 1000 + 1);
        }
        struct timespec nap = {0, 1000000L};
        nanosleep(&nap, NULL);
    }
    char line[64];
    int length = snprintf(line, sizeof line, "%d steps\n", milliseconds);
    return write(1, line, length) != length;
}
