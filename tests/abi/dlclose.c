/* A thread that has owned a ring may end after dlclose(3), which programs with plug-ins call. The
 * library has a destructor of thread-specific data, and handlers of fork(2): all of it stays
 * loaded. Not linked with the library; the argument is its path. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ringmsg.h>

static const char *path;

static int fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    return 1;
}

/* A pointer to data becomes one to a function: POSIX promises it, ISO C does not. */
#define FUNCTION(library, type, name) \
    type name;                        \
    do {                              \
        void *found_ = dlsym(library, #name); \
        memcpy(&name, &found_, sizeof found_);  \
    } while (0)

typedef int (*new_ring)(const struct ringmsg_ring_config *, struct ringmsg_ring **);
typedef int (*free_ring)(struct ringmsg_ring *);

static void *use_and_unload(void *failed)
{
    struct ringmsg_ring *ring;
    void *library = dlopen(path, RTLD_NOW);
    *(int *)failed = 1;
    if (library == NULL)
        return NULL;
    FUNCTION(library, new_ring, ringmsg_ring_new);
    FUNCTION(library, free_ring, ringmsg_ring_free);
    if (ringmsg_ring_new(NULL, &ring) == 0 && ringmsg_ring_free(ring) == 0)
        *(int *)failed = dlclose(library) != 0;
    return NULL;
}

int main(int count, char **arguments)
{
    int failed, status;
    pthread_t thread;
    if (count != 2)
        return fail("usage: dlclose LIBRARY");
    path = arguments[1];
    for (int i = 0; i < 3; i++) {
        if (pthread_create(&thread, NULL, use_and_unload, &failed) != 0 || pthread_join(thread, NULL) != 0)
            return fail("no thread");
        if (failed)
            return fail("the library was not used and closed");
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
            return fail("fork after dlclose");
    }
    return 0;
}
