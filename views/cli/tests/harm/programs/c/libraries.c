// Libraries that come and go. The library is `plugin.c`.
#include <dlfcn.h>
#include "hazard.h"

static int come_and_go(void) {
    const char *path = getenv("HARM_PLUGIN");
    for (int round = 0; round < 200; round++) {
        void *library = dlopen(path, round % 2 ? RTLD_NOW : RTLD_LAZY);
        EXPECT(library);
        void *(*entry)(size_t) = (void *(*)(size_t))dlsym(library, "plugin_makes");
        EXPECT(entry);
        void *made = entry(100);
        EXPECT(made);
        EXPECT(dlclose(library) == 0);
        // The object outlives the code that made it.
        memset(made, 2, 100);
        free(made);
    }
    EXPECT(dlopen("/no/such/library.so", RTLD_NOW) == NULL && strstr(dlerror(), "/no/such/library.so"));
    say("200 times\n");
    return 0;
}

MAIN({"dlopen_dlclose", come_and_go})
