// A library that allocates when it is loaded, when it is called and when it goes.
#include <stdlib.h>
#include <string.h>

static char *own;

__attribute__((constructor)) static void comes(void) { own = memset(malloc(300), 1, 300); }

__attribute__((destructor)) static void goes(void) {
    free(own);
    free(memset(malloc(200), 1, 200));
}

void *plugin_makes(size_t size) { return malloc(size); }
