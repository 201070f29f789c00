/* Checkerboard layout of the level solver.
 *
 * Pixel (y, x) has colour (y + x) & 1. Each row stores its pixels of colour 0 and those of colour 1 apart, so that
 * a half sweep reads and writes contiguous memory: pixel x is element x / 2 of its colour.
 * A plane group of P planes is an array (h, 2, P, stride): row, colour, plane, element. Elements run from PF_PAD;
 * everything before and after a row's pixels is padding that stays zero, wide enough for whole vectors.
 *
 * Planes that are never read at a neighbour are interleaved: an array (h, 2, groups, P, PF_PAD) keeps the P values of
 * PF_PAD pixels of a colour side by side, so that a pixel's coefficients come in one stream.
 */
#ifndef PF_SPLIT_H
#define PF_SPLIT_H

#include "core.h"

#define PF_PAD 16

static inline size_t pf_split_stride(int w) { return PF_PAD + (size_t)(((w + 1) / 2 + PF_PAD) / PF_PAD) * PF_PAD; }

/* Groups of PF_PAD pixels of a colour in a row. */
static inline int pf_groups(int w) { return ((w + 1) / 2 + PF_PAD - 1) / PF_PAD; }

/* First pixel column of a colour in row y: 0 or 1. */
static inline int pf_first_column(int y, int colour) { return (y + colour) & 1; }

/* Number of pixels of a colour in row y of a w wide image. */
static inline int pf_split_count(int y, int colour, int w) { return (w + 1 - pf_first_column(y, colour)) / 2; }

static inline float *pf_split(float *base, int planes, size_t stride, int y, int colour, int plane)
{
    return base + (((size_t)y * 2 + (size_t)colour) * (size_t)planes + (size_t)plane) * stride + PF_PAD;
}

static inline const float *pf_split_const(const float *base, int planes, size_t stride, int y, int colour, int plane)
{
    return base + (((size_t)y * 2 + (size_t)colour) * (size_t)planes + (size_t)plane) * stride + PF_PAD;
}

/* One row of an image into one plane. */
static inline void pf_split_row(const float *PF_RESTRICT row, int w, int y, float *base, int planes, size_t stride,
                                int plane)
{
    float *PF_RESTRICT even = pf_split(base, planes, stride, y, y & 1, plane);
    float *PF_RESTRICT odd = pf_split(base, planes, stride, y, 1 - (y & 1), plane);
    for (int i = 0; i < w / 2; i++) {
        even[i] = row[2 * i];
        odd[i] = row[2 * i + 1];
    }
    if (w & 1) even[w / 2] = row[w - 1];
}

/* One row of an image into one plane of interleaved groups (groups of colour y & 1, groups of the other), zeros after its
 * end. */
static inline void pf_group_row(const float *PF_RESTRICT row, int w, int y, float *base, int planes, int plane)
{
    const int groups = pf_groups(w);
    const size_t size = (size_t)planes * PF_PAD;
    for (int odd = 0; odd < 2; odd++) {
        float *PF_RESTRICT to = base + ((size_t)y * 2 + (size_t)((y + odd) & 1)) * groups * size + (size_t)plane * PF_PAD;
        const float *PF_RESTRICT from = row + odd;
        const int n = pf_split_count(y, (y + odd) & 1, w), whole = n / PF_PAD;
        for (int g = 0; g < whole; g++, to += size, from += 2 * PF_PAD)
            for (int i = 0; i < PF_PAD; i++) to[i] = from[2 * i];
        for (int i = 0; whole < groups && i < PF_PAD; i++) to[i] = whole * PF_PAD + i < n ? from[2 * i] : 0.0f;
    }
}

static inline void pf_merge_row(const float *base, int planes, size_t stride, int y, int plane, int w,
                                float *PF_RESTRICT row)
{
    const float *PF_RESTRICT even = pf_split_const(base, planes, stride, y, y & 1, plane);
    const float *PF_RESTRICT odd = pf_split_const(base, planes, stride, y, 1 - (y & 1), plane);
    for (int i = 0; i < w / 2; i++) {
        row[2 * i] = even[i];
        row[2 * i + 1] = odd[i];
    }
    if (w & 1) row[w - 1] = even[w / 2];
}

#endif
