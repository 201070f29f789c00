/* Widest x86-64 level (2, 3 or 4) that this processor and operating system run; 0 on other machines. */
#ifndef PF_SIMD_H
#define PF_SIMD_H

int pf_simd_level(void);

#endif
