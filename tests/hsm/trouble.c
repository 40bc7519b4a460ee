/* A PKCS#11 module in front of a real one, which is in trouble when a file says so: "sign sleep 3", "sign crash",
 * "sign hang", "login fail a4", "generate fail e2", "open hang". Everything else goes to the real module unchanged.
 *
 * Compiled with -DREAL="...": the module behind it. The file is named by the variable TROUBLE. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long ulong_t;
typedef ulong_t (*function)();

/* CK_FUNCTION_LIST (PKCS#11 2.40, pkcs11f.h): a version, then the functions in their order. */
struct list { unsigned char version[2]; function at[68]; };
enum { OPEN_SESSION = 12, LOGIN = 18, CREATE = 20, SIGN = 43, GENERATE_PAIR = 59 };

static struct list *real, ours;

static ulong_t trouble(const char *where)
{
    char named[32] = "", what[32] = "", how[32] = "";
    const char *path = getenv("TROUBLE");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file)
        return 0;
    int words = fscanf(file, "%31s %31s %31s", named, what, how);
    fclose(file);
    if (words < 2 || strcmp(named, where))
        return 0;
    if (!strcmp(what, "sleep"))
        usleep((useconds_t)(atof(how) * 1e6));
    else if (!strcmp(what, "hang"))
        for (;;)
            pause();
    else if (!strcmp(what, "crash"))
        *(volatile int *)8 = 0;
    else if (!strcmp(what, "fail"))
        return strtoul(how, NULL, 16);
    return 0;
}

static ulong_t open_session(ulong_t slot, ulong_t flags, void *application, void *notify, ulong_t *session)
{
    ulong_t failed = trouble("open");
    return failed ? failed : real->at[OPEN_SESSION](slot, flags, application, notify, session);
}

static ulong_t login(ulong_t session, ulong_t user, unsigned char *pin, ulong_t length)
{
    ulong_t failed = trouble("login");
    return failed ? failed : real->at[LOGIN](session, user, pin, length);
}

static ulong_t create(ulong_t session, void *template, ulong_t count, ulong_t *object)
{
    ulong_t failed = trouble("generate");
    return failed ? failed : real->at[CREATE](session, template, count, object);
}

static ulong_t generate(ulong_t session, void *mechanism, void *public, ulong_t publics, void *private,
                        ulong_t privates, ulong_t *one, ulong_t *other)
{
    ulong_t failed = trouble("generate");
    return failed ? failed
                  : real->at[GENERATE_PAIR](session, mechanism, public, publics, private, privates, one, other);
}

static ulong_t sign(ulong_t session, unsigned char *data, ulong_t length, unsigned char *signature, ulong_t *size)
{
    ulong_t failed = trouble("sign");
    return failed ? failed : real->at[SIGN](session, data, length, signature, size);
}

ulong_t C_GetFunctionList(struct list **given)
{
    if (!real) {
        void *library = dlopen(REAL, RTLD_NOW | RTLD_LOCAL);
        ulong_t (*get)(struct list **) = library ? (ulong_t (*)(struct list **))dlsym(library, "C_GetFunctionList") : NULL;
        if (!get || get(&real))
            return 5; /* CKR_GENERAL_ERROR */
        ours = *real;
        ours.at[OPEN_SESSION] = (function)open_session;
        ours.at[LOGIN] = (function)login;
        ours.at[CREATE] = (function)create;
        ours.at[SIGN] = (function)sign;
        ours.at[GENERATE_PAIR] = (function)generate;
    }
    *given = &ours;
    return 0;
}
