/* What every kernel shares: status codes, instruction-set variants, threads.
 *
 * Each kernel source is compiled once per instruction set with PF_ISA = v2 | v3 | v4 (x86-64 levels) or
 * base (any other machine) and exports one table of function pointers, PF_TABLE(topic). The binding picks a
 * table when it is imported (PF_SELECT). Without fused multiply-add contraction and with no reordered sums the
 * variants agree bit for bit.
 */
#ifndef PF_CORE_H
#define PF_CORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#include <windows.h>
static inline void pf_yield(void) { SwitchToThread(); }
#else
#include <sched.h>
static inline void pf_yield(void) { sched_yield(); }
#endif

typedef enum {
    PF_OK = 0,
    PF_ENOMEM = 1, /* scratch could not be allocated */
    PF_ESHAPE = 2, /* a size is zero or negative */
    PF_EVALUE = 3  /* a parameter is outside its range */
} pf_status;

#if defined(_MSC_VER) && !defined(__clang__)
#define PF_RESTRICT __restrict
#else
#define PF_RESTRICT restrict
#endif

#ifndef PF_ISA
#define PF_ISA base
#endif
#define PF_JOIN_(a, b) a##_##b
#define PF_JOIN(a, b) PF_JOIN_(a, b)
#define PF_TABLE(topic) PF_JOIN(topic, PF_ISA)

#if defined(__x86_64__) || defined(_M_X64)
#define PF_X86_64 1
#define PF_SELECT(type, topic)                                                        \
    extern const type topic##_v2, topic##_v3, topic##_v4;                             \
    static inline const type *topic##_select(int level)                               \
    {                                                                                 \
        return level >= 4 ? &topic##_v4 : level == 3 ? &topic##_v3 : &topic##_v2;     \
    }
#else
#define PF_X86_64 0
#define PF_SELECT(type, topic)                                                        \
    extern const type topic##_base;                                                   \
    static inline const type *topic##_select(int level)                               \
    {                                                                                 \
        (void)level;                                                                  \
        return &topic##_base;                                                         \
    }
#endif

/* For bodies that are specialised by constant arguments. */
#if defined(_MSC_VER) && !defined(__clang__)
#define PF_INLINE static __forceinline
#else
#define PF_INLINE static inline __attribute__((always_inline))
#endif

/* For loops that need all registers: inlined into more code than they are, the compiler spills their pointers. */
#if defined(_MSC_VER) && !defined(__clang__)
#define PF_APART static __declspec(noinline)
#else
#define PF_APART static __attribute__((noinline))
#endif

/* The next loop's iterations are independent; Microsoft's OpenMP 2.0 does not know simd. */
#if defined(_MSC_VER) && !defined(__clang__)
#define PF_SIMD __pragma(loop(ivdep))
#else
#define PF_SIMD _Pragma("omp simd")
#endif

/* Memory that will be read soon. */
#if defined(_MSC_VER) && !defined(__clang__)
#define PF_PREFETCH(address) ((void)(address))
#else
#define PF_PREFETCH(address) __builtin_prefetch(address)
#endif

static inline int pf_min_int(int a, int b) { return a < b ? a : b; }
static inline int pf_max_int(int a, int b) { return a > b ? a : b; }

/* Index mirrored at the border, edge pixel repeated: c b a | a b c | c b a. */
static inline int pf_mirror(int i, int n)
{
    const int period = 2 * n;
    i %= period;
    if (i < 0) i += period;
    return i < n ? i : period - 1 - i;
}

#endif
