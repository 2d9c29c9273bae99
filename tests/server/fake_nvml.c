/* A small libnvidia-ml: two GPUs and one MIG instance, as the driver would tell of them, and two GPUs that are lost,
   one of which still has a handle. Energy grows at each call. FAKE_NVML_BROKEN makes initialising fail as a driver that
   does not match its library does, FAKE_NVML_GONE counting the GPUs as one that was unloaded. */
typedef unsigned long long u64;
typedef struct { u64 total, free, used; } memory_t;
typedef struct { unsigned gpu, memory; } utilization_t;
enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9, LIB_RM_MISMATCH = 18, LOST = 15 };
static struct { int number; } gpus[2] = {{0}, {1}}, mig = {2}, lost = {3};
static u64 millijoules = 1000;
static int initialized = 0;
extern char *getenv(const char *);
#define NUMBER(h) (*(int *)(h))

int nvmlInitWithFlags(unsigned flags) { if (getenv("FAKE_NVML_BROKEN")) return LIB_RM_MISMATCH; initialized++; return OK; }
int nvmlShutdown(void) { initialized--; return OK; }
int fake_initialized(void) { return initialized; }
int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = 4;
    return getenv("FAKE_NVML_GONE") ? DRIVER_NOT_LOADED : OK;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (index == 0) return LOST; /* fallen off the bus */
    *handle = index == 1 ? &lost : &gpus[index - 2];
    return OK;
}
int nvmlDeviceGetUUID(void *h, char *uuid, unsigned length) {
    if (NUMBER(h) == 3) return LOST;
    const char *names[3] = {"GPU-aaaa", "GPU-bbbb", "MIG-cccc"};
    const char *name = names[NUMBER(h)];
    for (unsigned i = 0; i < length && (uuid[i] = name[i]); i++) {}
    return OK;
}
int nvmlDeviceGetUtilizationRates(void *h, utilization_t *u) {
    if (NUMBER(h) != 0) return NOT_SUPPORTED; /* as with MIG switched on */
    u->gpu = 85; u->memory = 10;
    return OK;
}
int nvmlDeviceGetPowerUsage(void *h, unsigned *milliwatts) { *milliwatts = 312500; return OK; }
int nvmlDeviceGetMemoryInfo(void *h, memory_t *m) {
    m->total = NUMBER(h) == 2 ? 10ull << 30 : 80ull << 30;
    m->used = NUMBER(h) == 2 ? 1ull << 30 : 17ull << 30;
    m->free = m->total - m->used;
    return OK;
}
int nvmlDeviceGetTotalEnergyConsumption(void *h, u64 *mj) {
    if (NUMBER(h) != 0) return NOT_SUPPORTED; /* before Volta */
    *mj = millijoules; millijoules += 5000;
    return OK;
}
int nvmlDeviceGetTemperature(void *h, int sensor, unsigned *celsius) { *celsius = 61; return sensor ? NOT_SUPPORTED : OK; }
int nvmlDeviceGetClockInfo(void *h, int type, unsigned *mhz) { *mhz = 1410; return type == 1 ? OK : NOT_SUPPORTED; }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *h, u64 *bits) { *bits = NUMBER(h) == 0 ? 0x1 | 0x4 | 0x40 : 0x1; return OK; }
int nvmlDeviceGetMigMode(void *h, unsigned *current, unsigned *pending) {
    if (NUMBER(h) == 0) return NOT_SUPPORTED;
    *current = *pending = 1;
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(void *h, unsigned *count) { *count = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *h, unsigned index, void **handle) {
    if (index != 3) return NOT_FOUND;
    *handle = &mig;
    return OK;
}
