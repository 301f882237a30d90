/* A fake libnvidia-ml.so.1: the real pynvml runs over it where there is no GPU, or none of the kind that is wanted.

   What the machine has is written in the text file that FAKE_NVML names, and read again whenever that file changes:

       driver.version 570.86.15            before the first card: of the driver
       init.takes 5                        seconds to open it
       generation 1                        a higher one: the driver was reset, and every handle is void
       gpu profiles/a100.txt               a card with the fields of that file (its path counts from this file)
       memory.used 30e9 50e9@2.5           after it: fields of that card; a value and, from 2.5 s on, another
       lost 0 1@4                          from 4 s on every question is answered with GPU_IS_LOST
       power !4                            every question for it is answered with return code 4
       xid 79@4                            an event at 4 s
       process.1234 2e9                    what a process holds; -1: NOT_AVAILABLE
       mig0.memory.used 1e9                a field of a MIG instance; there is one where mig0.gi and mig0.ci are

   Seconds count from the moment at which the file was written. A field that a card does not have is NOT_SUPPORTED; a
   later line replaces an earlier one of that name. Symbols are hidden by the linker (see fake_nvml.py). */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15
};
enum { MOST_CARDS = 9, MOST_FIELDS = 96, MOST_STEPS = 8, MOST_MIG = 7, MOST_GENERATIONS = 9 };

#define LOOK_S 8e-3

typedef unsigned long long u64;
typedef struct { u64 total, free, used; } memory_t;
typedef struct { unsigned version; u64 total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { unsigned version, sensor; int celsius; } temperature_t;
typedef struct { unsigned pid; u64 used; unsigned gpu_instance, compute_instance; } process_t;
typedef struct { unsigned gpu, memory; u64 peak, time, start; unsigned running, reserved[5]; } accounting_t;
typedef struct { void *device; u64 type, data; unsigned gpu_instance, compute_instance; } event_t;
typedef struct { unsigned id, scope; long long stamp, latency; unsigned type; int code; u64 value; } field_value_t;
typedef struct { unsigned multiprocessors, engines[5], gpu_slices, compute_slices; u64 memory_mb; } attributes_t;

typedef struct { double value, from; int code; } step_t;
typedef struct { char name[48], text[96]; step_t steps[MOST_STEPS]; int count; } field_t;
typedef struct { unsigned hashes[MOST_FIELDS]; int count; field_t fields[MOST_FIELDS]; } card_t;
typedef struct { int generation, card, mig; } handle_t; /* mig: -1 of a whole card */
typedef struct { double seen[MOST_CARDS]; u64 wanted[MOST_CARDS]; } events_t;

static card_t cards[MOST_CARDS]; /* the first is the driver's */
static int card_count, opened, opened_generation;
static double written; /* when the file was, in seconds of CLOCK_REALTIME */
static u64 version_of_file;
static handle_t handles[MOST_GENERATIONS][MOST_CARDS][MOST_MIG + 1];
static pthread_mutex_t reading = PTHREAD_MUTEX_INITIALIZER;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME_COARSE, &t); /* the clock that files are stamped by */
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* ---- the file ---- */

static unsigned hash(const char *name) {
    unsigned found = 2166136261u;
    while (*name) found = (found ^ (unsigned char)*name++) * 16777619u;
    return found;
}

/* What is measured over this library is to be the reader's time, not the time that a name takes to be found. */
static field_t *find(int card, const char *name) {
    unsigned wanted = hash(name);
    for (int i = 0; i < cards[card].count; i++)
        if (cards[card].hashes[i] == wanted && !strcmp(cards[card].fields[i].name, name)) return &cards[card].fields[i];
    return NULL;
}

static void take(int card, const char *name, const char *rest) {
    field_t *field = find(card, name);
    if (!field) {
        if (cards[card].count == MOST_FIELDS) abort();
        cards[card].hashes[cards[card].count] = hash(name);
        field = &cards[card].fields[cards[card].count++];
    }
    memset(field, 0, sizeof *field);
    snprintf(field->name, sizeof field->name, "%s", name);
    snprintf(field->text, sizeof field->text, "%s", rest);
    char words[256], *left = words, *word;
    snprintf(words, sizeof words, "%s", rest);
    while ((word = strsep(&left, " ")) && field->count < MOST_STEPS) {
        if (!*word) continue;
        step_t *step = &field->steps[field->count++];
        char *at = strchr(word, '@');
        step->from = at ? atof(at + 1) : 0;
        if (*word == '!') step->code = atoi(word + 1);
        else step->value = strtod(word, NULL);
    }
}

static void load(const char *path) {
    FILE *file = fopen(path, "r");
    char line[256];
    if (!file) { fprintf(stderr, "fake NVML: %s cannot be read\n", path); abort(); }
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "#\n")] = 0;
        char *rest = line, *name = strsep(&rest, " ");
        if (!*name) continue;
        while (rest && *rest == ' ') rest++;
        if (strcmp(name, "gpu")) { take(card_count, name, rest ? rest : ""); continue; }
        if (++card_count == MOST_CARDS) abort();
        cards[card_count].count = 0;
        char profile[512];
        const char *slash = strrchr(path, '/');
        rest[strcspn(rest, " ")] = 0;
        if (*rest == '/' || !slash) snprintf(profile, sizeof profile, "%s", rest);
        else snprintf(profile, sizeof profile, "%.*s/%s", (int)(slash - path), path, rest);
        load(profile);
    }
    fclose(file);
}

/* A change is seen within LOOK_S. */
static void refresh(void) {
    static double looked;
    struct stat about;
    double t = now();
    if (version_of_file && t - looked < LOOK_S) return;
    looked = t;
    const char *path = getenv("FAKE_NVML");
    if (!path || stat(path, &about)) return;
    u64 version = about.st_mtim.tv_sec * 1000000000ull + about.st_mtim.tv_nsec + about.st_ino;
    if (version == version_of_file) return;
    version_of_file = version;
    written = about.st_mtim.tv_sec + about.st_mtim.tv_nsec / 1e9;
    card_count = cards[0].count = 0;
    load(path);
}

/* ---- what a field says now ---- */

static int said(int card, const char *name, double *value) {
    field_t *field = find(card, name);
    if (!field || !field->count) return NOT_SUPPORTED;
    step_t *step = &field->steps[0];
    for (int i = 1; i < field->count; i++)
        if (now() - written >= field->steps[i].from) step = &field->steps[i];
    *value = step->value;
    return step->code;
}

static int number(int card, const char *name) {
    double value = 0;
    return said(card, name, &value) ? 0 : (int)value;
}

static int generation(void) { return number(0, "generation"); }

static const char *full_name(handle_t *device, const char *name, char *into, size_t size) {
    if (device->mig < 0) return name;
    snprintf(into, size, "mig%d.%s", device->mig, name);
    return into;
}

/* The state of the card behind a handle; with `name` also that field of it. Called with the lock held. */
static int state(handle_t *device, const char *name, double *value) {
    char full[64];
    refresh();
    if (!opened) return UNINITIALIZED;
    if (!device) return INVALID_ARGUMENT;
    if (device->generation != opened_generation || opened_generation != generation()) return GPU_IS_LOST;
    if (device->card > card_count || number(device->card, "lost")) return GPU_IS_LOST;
    return name ? said(device->card, full_name(device, name, full, sizeof full), value) : SUCCESS;
}

static int ask(void *device, const char *name, double *value) {
    pthread_mutex_lock(&reading);
    int code = state(device, name, value);
    pthread_mutex_unlock(&reading);
    return code;
}

#define ANSWER(name, out, type) \
    do { double value; int code = ask(device, name, &value); if (!code) *(out) = (type)value; return code; } while (0)

static int text(void *device, const char *name, char *out, unsigned size) {
    char full[64];
    double value;
    pthread_mutex_lock(&reading);
    int code = state(device, name, &value);
    if (!code) {
        handle_t *of = device;
        snprintf(out, size, "%s", find(of->card, full_name(of, name, full, sizeof full))->text);
    }
    pthread_mutex_unlock(&reading);
    return code;
}

/* ---- the library ---- */

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    pthread_mutex_lock(&reading);
    refresh();
    double value, takes = 0;
    if (version_of_file) said(0, "init.takes", &takes);
    if (takes) {
        pthread_mutex_unlock(&reading);
        usleep((useconds_t)(takes * 1e6));
        pthread_mutex_lock(&reading);
    }
    int code = version_of_file ? said(0, "init", &value) : DRIVER_NOT_LOADED;
    if (code == NOT_SUPPORTED) code = SUCCESS; /* nothing is said of it */
    if (!code && !opened++) opened_generation = generation();
    pthread_mutex_unlock(&reading);
    return code;
}

int nvmlShutdown(void) { return opened ? (opened--, SUCCESS) : UNINITIALIZED; }

const char *nvmlErrorString(int code) { return code == GPU_IS_LOST ? "GPU is lost" : "an error"; }

int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    handle_t driver = {opened_generation, 0, -1};
    return text(&driver, "driver.version", out, size);
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    *version = 12080;
    return opened ? SUCCESS : UNINITIALIZED;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    refresh();
    *count = card_count;
    return opened ? SUCCESS : UNINITIALIZED;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (index >= (unsigned)card_count) return INVALID_ARGUMENT;
    handle_t *handle = &handles[opened_generation % MOST_GENERATIONS][index + 1][0];
    *handle = (handle_t){opened_generation, index + 1, -1};
    *device = handle;
    double value;
    int code = ask(handle, "handle", &value); /* such as `handle !4`: no permission */
    return code == NOT_SUPPORTED ? SUCCESS : code;
}

int nvmlDeviceGetName(void *device, char *out, unsigned size) { return text(device, "name", out, size); }
int nvmlDeviceGetUUID(void *device, char *out, unsigned size) { return text(device, "uuid", out, size); }
int nvmlDeviceGetVbiosVersion(void *device, char *out, unsigned size) { return text(device, "vbios", out, size); }

/* ---- amounts ---- */

int nvmlDeviceGetMemoryInfo(void *device, memory_t *out) {
    double total, used, reserved = 0;
    int code = ask(device, "memory.total", &total);
    if (code || (code = ask(device, "memory.used", &used))) return code;
    ask(device, "memory.reserved", &reserved);
    *out = (memory_t){(u64)total, (u64)(total - used - reserved), (u64)(used + reserved)};
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(void *device, memory_v2_t *out) {
    double total, used, reserved;
    int code = ask(device, "memory.total", &total);
    if (code || (code = ask(device, "memory.used", &used))) return code;
    if ((code = ask(device, "memory.reserved", &reserved))) return code;
    if (out->version != (sizeof *out | 2 << 24)) return INVALID_ARGUMENT;
    out->total = total; out->used = used; out->reserved = reserved; out->free = total - used - reserved;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(void *device, utilization_t *out) {
    double gpu, memory;
    int code = ask(device, "utilization", &gpu);
    if (code || (code = ask(device, "utilization.memory", &memory))) return code;
    *out = (utilization_t){(unsigned)gpu, (unsigned)memory};
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) { ANSWER("power", milliwatts, unsigned); }
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *milliwatts) { ANSWER("power.limit", milliwatts, unsigned); }
int nvmlDeviceGetTotalEnergyConsumption(void *device, u64 *millijoules) { ANSWER("energy", millijoules, u64); }
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *out) { (void)sensor; ANSWER("temperature", out, unsigned); }

int nvmlDeviceGetTemperatureV(void *device, temperature_t *out) {
    if (out->version != (sizeof *out | 1 << 24)) return INVALID_ARGUMENT;
    ANSWER("temperature", &out->celsius, int);
}

int nvmlDeviceGetClockInfo(void *device, int type, unsigned *megahertz) {
    ANSWER(type == 1 ? "clock.sm" : type == 2 ? "clock.memory" : "", megahertz, unsigned);
}

int nvmlDeviceGetSupportedClocksEventReasons(void *device, u64 *mask) { ANSWER("throttle.supported", mask, u64); }
int nvmlDeviceGetCurrentClocksEventReasons(void *device, u64 *mask) { ANSWER("throttle", mask, u64); }
int nvmlDeviceGetSupportedClocksThrottleReasons(void *device, u64 *mask) { ANSWER("throttle.supported", mask, u64); }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, u64 *mask) { ANSWER("throttle", mask, u64); }

/* The real one measures for 20 ms; this one takes `pcie.takes` seconds, less once the file says less. */
int nvmlDeviceGetPcieThroughput(void *device, int counter, unsigned *kilobytes) {
    double takes, begin = now();
    while (!ask(device, "pcie.takes", &takes) && (takes -= now() - begin) > 0)
        usleep((useconds_t)((takes < LOOK_S ? takes : LOOK_S) * 1e6));
    ANSWER(counter ? "pcie.rx" : "pcie.tx", kilobytes, unsigned);
}

int nvmlDeviceGetTotalEccErrors(void *device, int kind, int counter, u64 *count) {
    (void)counter;
    ANSWER(kind ? "ecc.uncorrected" : "ecc.corrected", count, u64);
}

int nvmlDeviceGetFieldValues(void *device, int count, field_value_t *values) {
    double value = 0;
    int code = ask(device, NULL, NULL);
    for (int i = 0; !code && i < count; i++) {
        values[i].code = values[i].id == 82 ? ask(device, "temperature.memory", &value) : NOT_SUPPORTED;
        values[i].value = (unsigned)value;
    }
    return code;
}

/* ---- processes ---- */

static int processes(handle_t *device, const char *kind, unsigned *count, process_t *out) {
    char prefix[32], full[64];
    unsigned found = 0, room = *count;
    snprintf(prefix, sizeof prefix, "%s.", kind);
    pthread_mutex_lock(&reading);
    double value, refused;
    int code = state(device, NULL, NULL);
    if (!code && (code = state(device, kind, &refused)) == NOT_SUPPORTED) code = SUCCESS;
    full_name(device, prefix, full, sizeof full);
    const char *start = device && device->mig >= 0 ? full : prefix;
    for (int i = 0; !code && i < cards[device->card].count; i++) {
        field_t *field = &cards[device->card].fields[i];
        if (strncmp(field->name, start, strlen(start)) || said(device->card, field->name, &value)) continue;
        if (found < room) {
            u64 used = value < 0 ? ~0ull : (u64)value;
            out[found] = (process_t){(unsigned)atol(field->name + strlen(start)), used, ~0u, ~0u};
        }
        found++;
    }
    pthread_mutex_unlock(&reading);
    *count = found;
    return code ? code : found > room ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *n, process_t *out) { return processes(d, "process", n, out); }
int nvmlDeviceGetComputeRunningProcesses_v2(void *d, unsigned *n, process_t *out) { return processes(d, "process", n, out); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *d, unsigned *n, process_t *out) { return processes(d, "graphics", n, out); }
int nvmlDeviceGetGraphicsRunningProcesses_v2(void *d, unsigned *n, process_t *out) { return processes(d, "graphics", n, out); }

int nvmlDeviceGetAccountingMode(void *device, unsigned *mode) { ANSWER("accounting", mode, unsigned); }

int nvmlDeviceGetAccountingStats(void *device, unsigned pid, accounting_t *out) {
    char name[32];
    double peak;
    snprintf(name, sizeof name, "accounting.%u", pid);
    int code = ask(device, name, &peak);
    if (!code) *out = (accounting_t){.peak = (u64)peak, .running = 1};
    return code == NOT_SUPPORTED ? NOT_FOUND : code;
}

/* ---- MIG ---- */

int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    *pending = 0;
    ANSWER("mig.mode", current, unsigned);
}

int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) {
    *count = MOST_MIG;
    return ask(device, NULL, NULL);
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **instance) {
    handle_t *of = device, *handle = &handles[of->generation % MOST_GENERATIONS][of->card][index + 1];
    double value;
    *handle = (handle_t){of->generation, of->card, (int)index};
    *instance = handle;
    int code = ask(handle, "gi", &value);
    return code == NOT_SUPPORTED ? NOT_FOUND : code;
}

int nvmlDeviceGetGpuInstanceId(void *device, unsigned *id) { ANSWER("gi", id, unsigned); }
int nvmlDeviceGetComputeInstanceId(void *device, unsigned *id) { ANSWER("ci", id, unsigned); }

int nvmlDeviceGetAttributes_v2(void *device, attributes_t *out) {
    double multiprocessors, slices, total;
    int code = ask(device, "multiprocessors", &multiprocessors);
    if (code || (code = ask(device, "slices", &slices)) || (code = ask(device, "memory.total", &total))) return code;
    *out = (attributes_t){.multiprocessors = multiprocessors, .gpu_slices = slices, .memory_mb = (u64)total >> 20};
    return SUCCESS;
}

/* ---- events: `xid` (type 8), `ecc.event` (type 1 or 2) ---- */

int nvmlEventSetCreate(void **set) {
    events_t *events = calloc(1, sizeof *events);
    for (int i = 0; i < MOST_CARDS; i++) events->seen[i] = now();
    *set = events;
    return SUCCESS;
}

int nvmlEventSetFree(void *set) { free(set); return SUCCESS; }
int nvmlDeviceGetSupportedEventTypes(void *device, u64 *types) { ANSWER("events", types, u64); }

int nvmlDeviceRegisterEvents(void *device, u64 types, void *set) {
    ((events_t *)set)->wanted[((handle_t *)device)->card] = types;
    return ask(device, NULL, NULL);
}

static int next_event(events_t *set, event_t *out) {
    double first = now();
    refresh();
    *out = (event_t){0};
    for (int card = 1; card <= card_count; card++) {
        handle_t *handle = &handles[opened_generation % MOST_GENERATIONS][card][0];
        if (!set->wanted[card]) continue;
        int code = state(handle, NULL, NULL);
        if (code) return code;
        for (int kind = 0; kind < 2; kind++) {
            field_t *field = find(card, kind ? "ecc.event" : "xid");
            for (int i = 0; field && i < field->count; i++) {
                double at = written + field->steps[i].from;
                if (at <= set->seen[card] || at > first) continue;
                u64 type = kind ? (u64)field->steps[i].value : 8;
                if (!(type & set->wanted[card])) continue;
                first = at;
                *out = (event_t){handle, type, kind ? 0 : (u64)field->steps[i].value, ~0u, ~0u};
            }
        }
    }
    if (!out->device) return TIMEOUT;
    set->seen[((handle_t *)out->device)->card] = first;
    return SUCCESS;
}

int nvmlEventSetWait_v2(void *set, event_t *out, unsigned timeout_ms) {
    double until = now() + timeout_ms / 1e3;
    for (;;) {
        pthread_mutex_lock(&reading);
        int code = next_event(set, out);
        pthread_mutex_unlock(&reading);
        if (code != TIMEOUT || now() >= until) return code;
        usleep(1000);
    }
}
