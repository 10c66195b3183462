// Libraries that come and go, held by objects.
#include <dlfcn.h>
#include <memory>
#include <string>
#include "hazard.hpp"

static int come_and_go() {
    std::string path = getenv("HARM_PLUGIN");
    for (int round = 0; round < 100; round++) {
        std::unique_ptr<void, int (*)(void *)> library(dlopen(path.c_str(), RTLD_NOW), dlclose);
        EXPECT(library);
        auto entry = reinterpret_cast<void *(*)(size_t)>(dlsym(library.get(), "plugin_makes"));
        std::unique_ptr<void, void (*)(void *)> made(entry(100), free);
        memset(made.get(), 2, 100);
        std::string text(100, 't');
    }
    say("100 times\n");
    return 0;
}

MAIN({"dlopen_dlclose", come_and_go})
