// A library that someone else preloads: it says that it is there.
#include <unistd.h>

__attribute__((constructor)) static void here(void) {
    if (write(1, "preloaded\n", 10) != 10) _exit(1);
}
