/* A fake libnvidia-ml.so.1: two GPUs, so that the real pynvml runs where there is none.

   What a driver can lack is lacking: gpu1 answers NOT_SUPPORTED for power, no GPU has a clock (NOT_SUPPORTED),
   and nvmlDeviceGetTotalEnergyConsumption and nvmlDeviceGetMemoryInfo_v2 are missing (unless WITH_RESERVED).
   With FAKE_NVML_LOST naming a file that exists, every question is answered with GPU_IS_LOST. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, GPU_IS_LOST = 15 };

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned int gpu, memory; } utilization_t;

static char first, second;

static int lost(void) {
    const char *file = getenv("FAKE_NVML_LOST");
    return file && access(file, F_OK) == 0;
}

static int is_second(void *device) { return device == &second; }

int nvmlInitWithFlags(unsigned int flags) { (void)flags; return lost() ? GPU_IS_LOST : SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code == GPU_IS_LOST ? "GPU is lost" : "Not Supported"; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    *device = index ? &second : &first;
    return SUCCESS;
}

int nvmlDeviceGetName(void *device, char *name, unsigned int size) {
    snprintf(name, size, "Fake GPU %d", is_second(device));
    return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *version, unsigned int size) { snprintf(version, size, "999.1"); return SUCCESS; }

int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    if (lost()) return GPU_IS_LOST;
    memory->total = 8000; memory->used = 3000 + is_second(device); memory->free = 8000 - memory->used;
    return SUCCESS;
}

#ifdef WITH_RESERVED
int nvmlDeviceGetMemoryInfo_v2(void *device, memory_v2_t *memory) {
    if (lost()) return GPU_IS_LOST;
    memory->total = 8000; memory->reserved = 500; memory->used = 2500 + is_second(device);
    memory->free = 7500 - memory->used;
    return SUCCESS;
}
#endif

int nvmlDeviceGetUtilizationRates(void *device, utilization_t *rates) {
    if (lost()) return GPU_IS_LOST;
    rates->gpu = is_second(device) ? 0 : 75; rates->memory = 20;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts) {
    if (lost()) return GPU_IS_LOST;
    if (is_second(device)) return NOT_SUPPORTED;
    *milliwatts = 250500;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned int *celsius) {
    (void)device; (void)sensor;
    if (lost()) return GPU_IS_LOST;
    *celsius = 61;
    return SUCCESS;
}

int nvmlDeviceGetClockInfo(void *device, int type, unsigned int *megahertz) {
    (void)device; (void)type; (void)megahertz;
    return NOT_SUPPORTED;
}
