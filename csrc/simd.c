#include "simd.h"
#include "core.h"

#if PF_X86_64 && defined(_MSC_VER) && !defined(__clang__)
#include <immintrin.h>
#include <intrin.h>

int pf_simd_level(void)
{
    int r[4];
    __cpuid(r, 0);
    if (r[0] < 7) return 2;
    __cpuid(r, 1);
    const int osxsave = (r[2] >> 27) & 1, fma = (r[2] >> 12) & 1;
    if (!osxsave) return 2;
    const unsigned long long xcr0 = _xgetbv(0);
    __cpuidex(r, 7, 0);
    const int avx2 = (r[1] >> 5) & 1, bmi2 = (r[1] >> 8) & 1;
    const int f = (r[1] >> 16) & 1, dq = (r[1] >> 17) & 1, bw = (r[1] >> 30) & 1, vl = (r[1] >> 31) & 1;
    if (!(avx2 && bmi2 && fma) || (xcr0 & 0x6) != 0x6) return 2;
    return f && dq && bw && vl && (xcr0 & 0xe6) == 0xe6 ? 4 : 3;
}
#elif PF_X86_64
int pf_simd_level(void)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("fma")) return 2;
    const int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    return avx512 ? 4 : 3;
}
#else
int pf_simd_level(void) { return 0; }
#endif
