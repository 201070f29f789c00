/* Backward warp, one output row at a time.
 *
 *  1. Interpolate the displacement between the rows of a coarser field, where it has fewer.
 *  2. Split every displacement into a whole number of pixels and a fraction in [0, 1). The fraction is taken from
 *     the displacement, not from the coordinate, so that it keeps its precision far from the origin and a zero
 *     displacement returns the input's bits.
 *  3. In a smooth field the whole parts of BLOCK neighbours are mostly equal, or differ by one pixel. Their stencils
 *     then lie in one of 4x4, or 5x5, contiguous runs of samples, in which a pixel's weights sit at the left or the
 *     right, above or below: the interpolation vectorises without gathers.
 *  4. Where the stencil crosses the border there are ghost samples 3 f1 - 3 f2 + f3, as in Keys (1981). A block there
 *     gets a copy of its samples with the ghosts among them.
 *  5. Other pixels are done one by one; pixels outside take the fill.
 *  6. A row that is to be integers is rounded and clipped when it is done. What else is asked about the row is found
 *     while it is in the cache: which pixels are inside, and how long its displacements are.
 *
 * Cubic is Keys' convolution with a = -1/2.
 */
#include "warp.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lines.h"

#define BLOCK 16
#define SPAN (BLOCK + 4)/* samples along a row that a block's stencils reach */
#define ROOM (3 * SPAN) /* between rows of samples, as many before and after them */

/* One row of a displacement, and scratch. */
typedef struct {
    const float *u, *v;
    int32_t *dx, *dy; /* whole part, in pixels of this grid */
    float *fx, *fy;   /* fraction */
    uint8_t *steps;   /* whether the whole part is not that of the pixel before */
    float *line;      /* the row of the image before it is rounded */
    float *between;   /* (2, w) u and v between rows of a coarser field */
} row_offsets;

/* Row y of a field. */
static void find_row(const pf_field *field, int y, int w, row_offsets *o)
{
    o->u = field->u + (size_t)y * w;
    o->v = field->v + (size_t)y * w;
    if (!field->rows) return;
    pf_combine(field->u, (size_t)w, field->rows, y, w, o->between);
    pf_combine(field->v, (size_t)w, field->rows, y, w, o->between + w);
    o->u = o->between;
    o->v = o->between + w;
}

/* Displacements beyond `limit`, and NaN, become `limit`. */
static void split_row(int w, float per_col, float per_row, float limit, row_offsets o)
{
    const float *PF_RESTRICT u = o.u, *PF_RESTRICT v = o.v;
    int32_t *PF_RESTRICT dx = o.dx, *PF_RESTRICT dy = o.dy;
    float *PF_RESTRICT fx = o.fx, *PF_RESTRICT fy = o.fy;
    uint8_t *PF_RESTRICT steps = o.steps;
    PF_SIMD
    for (int x = 0; x < w; x++) {
        float a = u[x] * per_col, b = v[x] * per_row;
        a = fabsf(a) < limit ? a : limit;
        b = fabsf(b) < limit ? b : limit;
        int32_t ia = (int32_t)a, ib = (int32_t)b;
        ia -= (float)ia > a;
        ib -= (float)ib > b;
        dx[x] = ia;
        dy[x] = ib;
        fx[x] = a - (float)ia;
        fy[x] = b - (float)ib;
    }
    PF_SIMD
    for (int x = 1; x < w; x++) steps[x] = (uint8_t)((dx[x] != dx[x - 1]) | (dy[x] != dy[x - 1]));
}

/* Without branches, so that it vectorises. */
PF_INLINE int inside(int i, float fraction, int n)
{
    return (i >= 0) & ((i < n - 1) | ((i == n - 1) & (fraction == 0.0f)));
}

/* Weights of the samples at -1, 0, 1, 2. */
typedef struct {
    float a, b, c, d;
} taps;

/* For a position f in [0, 1). */
PF_INLINE taps weights(float f, const int linear)
{
    if (linear) return (taps){0.0f, 1.0f - f, f, 0.0f};
    return (taps){((-0.5f * f + 1.0f) * f - 0.5f) * f, (1.5f * f - 2.5f) * f * f + 1.0f,
                  ((-1.5f * f + 2.0f) * f + 0.5f) * f, (0.5f * f - 0.5f) * f * f};
}

/* src(y, x) where x or y may be one step (two, on the far side) outside. */
static float ghost_x(const float *row, int x, int w)
{
    if (w < 3) return row[pf_max_int(0, pf_min_int(x, w - 1))];
    if (x < 0) return 3.0f * row[0] - 3.0f * row[1] + row[2];
    if (x >= w) return 3.0f * row[w - 1] - 3.0f * row[w - 2] + row[w - 3];
    return row[x];
}

static float ghost(const float *src, int y, int x, int h, int w)
{
    if (y >= 0 && y < h) return ghost_x(src + (size_t)y * w, x, w);
    if (h < 3) return ghost_x(src + (size_t)pf_max_int(0, pf_min_int(y, h - 1)) * w, x, w);
    const int edge = y < 0 ? 0 : h - 1, step = y < 0 ? 1 : -1;
    return 3.0f * ghost_x(src + (size_t)edge * w, x, w) - 3.0f * ghost_x(src + (size_t)(edge + step) * w, x, w)
        + ghost_x(src + (size_t)(edge + 2 * step) * w, x, w);
}

static float one_pixel(const float *src, int y, int x, float fy, float fx, int h, int w, int linear)
{
    if (fy == 0.0f && fx == 0.0f) return src[(size_t)y * w + x];
    const taps along_y = weights(fy, linear), along_x = weights(fx, linear);
    const float ky[4] = {along_y.a, along_y.b, along_y.c, along_y.d};
    const float kx[4] = {along_x.a, along_x.b, along_x.c, along_x.d};
    float sum = 0.0f;
    if (y > 0 && y + 2 < h && x > 0 && x + 2 < w) {
        const float *s = src + (size_t)(y - 1) * w + x - 1;
        for (int p = 0; p < 4; p++, s += w) sum += ky[p] * (kx[0] * s[0] + kx[1] * s[1] + kx[2] * s[2] + kx[3] * s[3]);
        return sum;
    }
    for (int p = 0; p < 4; p++) {
        if (ky[p] == 0.0f) continue;
        float line = 0.0f;
        for (int q = 0; q < 4; q++)
            if (kx[q] != 0.0f) line += kx[q] * ghost(src, y + p - 1, x + q - 1, h, w);
        sum += ky[p] * line;
    }
    return sum;
}

/* A pixel's four weights among five samples, from the second on where second is 1 instead of 0. */
#define PLACE(k, second, out)                                                   \
    const float out##0 = (1.0f - (second)) * k.a;                               \
    const float out##1 = (1.0f - (second)) * k.b + (second) * k.a;              \
    const float out##2 = (1.0f - (second)) * k.c + (second) * k.b;              \
    const float out##3 = (1.0f - (second)) * k.d + (second) * k.c;              \
    const float out##4 = (second) * k.d

/* BLOCK pixels whose stencils start at top; where wide, or tall, some start one pixel further right (dx > left), or down
 * (dy > upper). */
PF_INLINE void block_of(const float *PF_RESTRICT top, size_t w, row_offsets o, int32_t left, int32_t upper,
                        const int linear, const int wide, const int tall, float *PF_RESTRICT out)
{
    const float *PF_RESTRICT fx = o.fx, *PF_RESTRICT fy = o.fy;
    const int32_t *PF_RESTRICT dx = o.dx, *PF_RESTRICT dy = o.dy;
    PF_SIMD
    for (size_t i = 0; i < BLOCK; i++) {
        const taps kx = weights(fx[i], linear), ky = weights(fy[i], linear);
        const float right = wide ? (float)(dx[i] - left) : 0.0f, lower = tall ? (float)(dy[i] - upper) : 0.0f;
        PLACE(kx, right, x);
        PLACE(ky, lower, y);
        const float *s = top + i;
        /* a weight of zero does not keep a neighbour's NaN out */
#define LINE(s)                                                                                           \
    (wide ? x0 * (s)[0] + x1 * (s)[1] + x2 * (s)[2] + x3 * (s)[3] + x4 * (s)[4]                           \
          : kx.a * (s)[0] + kx.b * (s)[1] + kx.c * (s)[2] + kx.d * (s)[3])
#define HERE(s) (right != 0.0f ? (s)[2] : (s)[1])
        const float sum
            = tall ? y0 * LINE(s) + y1 * LINE(s + w) + y2 * LINE(s + 2 * w) + y3 * LINE(s + 3 * w) + y4 * LINE(s + 4 * w)
                   : ky.a * LINE(s) + ky.b * LINE(s + w) + ky.c * LINE(s + 2 * w) + ky.d * LINE(s + 3 * w);
        const float whole = lower != 0.0f ? HERE(s + 2 * w) : HERE(s + w);
#undef LINE
#undef HERE
        out[i] = (fx[i] == 0.0f) & (fy[i] == 0.0f) ? whole : sum;
    }
}

#define BLOCKS(name, linear, wide, tall)                                                                              \
    PF_APART void name(const float *top, size_t w, const row_offsets *o, int32_t left, int32_t upper, float *out)     \
    {                                                                                                                 \
        block_of(top, w, *o, left, upper, linear, wide, tall, out);                                                   \
    }

BLOCKS(cubic_block, 0, 0, 0)
BLOCKS(cubic_wide, 0, 1, 0)
BLOCKS(cubic_tall, 0, 0, 1)
BLOCKS(cubic_both, 0, 1, 1)
BLOCKS(linear_block, 1, 0, 0)
BLOCKS(linear_both, 1, 1, 1)
#undef BLOCKS

static float nearest(const float *src, int y, int x, float fy, float fx, int w)
{
    return src[(size_t)(y + (fy >= 0.5f)) * w + x + (fx >= 0.5f)];
}

/* Smallest of BLOCK whole parts, and by how much the largest is larger. */
static int spread_of(const int32_t *PF_RESTRICT d, int32_t *smallest)
{
    int32_t lo = d[0], hi = d[0];
    for (int i = 0; i < BLOCK; i++) {
        lo = d[i] < lo ? d[i] : lo;
        hi = d[i] > hi ? d[i] : hi;
    }
    *smallest = lo;
    return hi - lo;
}

/* Samples (y, x) to (y, x + SPAN - 1), ghosts one step outside, 0 beyond: no pixel inside the image needs those. What is
 * within SPAN before and after out may change. */
static void sample_row(const float *src, int y, int x, int h, int w, float *PF_RESTRICT out)
{
    if (y == -1 || y == h) {
        float room[3][ROOM], *near = room[0] + SPAN, *next = room[1] + SPAN, *far = room[2] + SPAN;
        const int edge = y < 0 ? 0 : h - 1, step = y < 0 ? 1 : -1;
        sample_row(src, edge, x, h, w, near);
        sample_row(src, edge + step, x, h, w, next);
        sample_row(src, edge + 2 * step, x, h, w, far);
        for (int i = 0; i < SPAN; i++) out[i] = 3.0f * near[i] - 3.0f * next[i] + far[i];
        return;
    }
    for (int i = 0; i < SPAN; i++) out[i] = 0.0f;
    if (y < 0 || y > h) return;
    const float *row = src + (size_t)y * w;
    const int first = pf_max_int(0, -x), stop = pf_min_int(SPAN, w - x);
    if (w >= SPAN && x > -SPAN && x < w) { /* as many as there are samples, so that it takes no loop */
        const int near = pf_max_int(0, pf_min_int(x, w - SPAN));
        memcpy(out + (near - x), row + near, SPAN * sizeof(float));
    } else {
        for (int i = first; i < stop; i++) out[i] = row[x + i];
    }
    if (x < 0 && first <= SPAN) out[first - 1] = ghost_x(row, -1, w);
    if (stop >= 0 && stop < SPAN) out[stop] = ghost_x(row, w, w);
}

/* Smallest whole parts of a block and the place in the image where its stencils start. */
typedef struct {
    row_offsets o;
    int32_t left, upper;
    int wide, tall; /* whether whole parts differ */
    int top, first;
} block_place;

/* Whether BLOCK pixels have the same whole parts. */
static int all_equal(const uint8_t *steps)
{
    uint64_t first, last; /* of the fifteen after the first pixel */
    memcpy(&first, steps + 1, sizeof first);
    memcpy(&last, steps + BLOCK - sizeof last, sizeof last);
    return !(first | last);
}

/* Whether the whole parts of the pixels from x on are near enough to each other for a block. */
static int find_block(int y, int x, row_offsets o, block_place *place)
{
    *place = (block_place){.o = {.dx = o.dx + x, .dy = o.dy + x, .fx = o.fx + x, .fy = o.fy + x},
                           .left = o.dx[x], .upper = o.dy[x]};
    if (!all_equal(o.steps + x)) {
        place->wide = spread_of(place->o.dx, &place->left);
        place->tall = spread_of(place->o.dy, &place->upper);
        if (place->wide > 1 || place->tall > 1) return 0;
    }
    place->top = y + place->upper - 1;
    place->first = x + place->left - 1;
    return 1;
}

static void fill_block(const float *top, size_t w, const block_place *place, int interpolation, float *out)
{
    static void (*const cubic[2][2])(const float *, size_t, const row_offsets *, int32_t, int32_t, float *)
        = {{cubic_block, cubic_tall}, {cubic_wide, cubic_both}};
    if (interpolation == PF_CUBIC)
        cubic[place->wide][place->tall](top, w, &place->o, place->left, place->upper, out);
    else (place->wide | place->tall ? linear_both : linear_block)(top, w, &place->o, place->left, place->upper, out);
}

static int within(const block_place *place, int h, int w)
{
    const int top = place->top, first = place->first;
    return !(top < 0 || top + 4 >= h || first < 0 || first + BLOCK + 3 >= w);
}

/* A block of which some pixels' stencils, or all of the pixel, are outside; not where a sample is NaN or infinite, which
 * a weight of zero does not keep out. */
static int warp_border(const float *src, const float *fill, int y, int x, int h, int w, int interpolation,
                       const block_place *place, float *PF_RESTRICT out)
{
    float samples[5 * ROOM], found[BLOCK];
    int32_t usable[BLOCK];
    int any = 0, spoiled = 0;
    if (h < 3) return 0;
    for (int i = 0; i < BLOCK; i++) {
        usable[i] = inside(y + place->o.dy[i], place->o.fy[i], h) & inside(x + i + place->o.dx[i], place->o.fx[i], w);
        any |= usable[i];
    }
    if (any) {
        for (int p = 0; p < 5; p++) sample_row(src, place->top + p, place->first, h, w, samples + p * ROOM + SPAN);
        fill_block(samples + SPAN, ROOM, place, interpolation, found);
        for (int i = 0; i < BLOCK; i++) spoiled |= usable[i] & !(fabsf(found[i]) <= FLT_MAX);
        if (spoiled) return 0;
    }
    for (int i = 0; i < BLOCK; i++) out[i] = usable[i] ? found[i] : fill ? fill[i] : 0.0f;
    return 1;
}

/* The pixels from x on as a block, where that is possible. */
static int warp_block(const float *src, const float *fill, int y, int x, int h, int w, int interpolation, row_offsets o,
                      float *out)
{
    block_place place;
    if (!find_block(y, x, o, &place)) return 0;
    if (!within(&place, h, w)) return warp_border(src, fill, y, x, h, w, interpolation, &place, out);
    const float *from = src + (size_t)place.top * w + place.first;
    if (place.top + 5 < h) PF_PREFETCH(from + 5 * (size_t)w + BLOCK - 1); /* for the rows below */
    fill_block(from, (size_t)w, &place, interpolation, out);
    return 1;
}

static void warp_row(const float *src, const float *fill, int y, int h, int w, int interpolation, row_offsets o,
                     float *out)
{
    for (int x = 0; x < w; x += BLOCK) {
        const int start = pf_min_int(x, pf_max_int(w - BLOCK, 0)); /* the last block may overlap the one before */
        if (interpolation != PF_NEAREST && w >= BLOCK
            && warp_block(src, fill ? fill + start : NULL, y, start, h, w, interpolation, o, out + start)) continue;
        for (int i = x; i < pf_min_int(x + BLOCK, w); i++) {
            const int sy = y + o.dy[i], sx = i + o.dx[i];
            const float fx = o.fx[i], fy = o.fy[i];
            if (!inside(sy, fy, h) || !inside(sx, fx, w)) out[i] = fill ? fill[i] : 0.0f;
            else if (interpolation == PF_NEAREST) out[i] = nearest(src, sy, sx, fy, fx, w);
            else out[i] = one_pixel(src, sy, sx, fy, fx, h, w, interpolation == PF_LINEAR);
        }
    }
}

#define STORE(name, type, least, most)                                                      \
    static void name(const float *PF_RESTRICT row, int w, type *PF_RESTRICT out)            \
    {                                                                                       \
        PF_SIMD                                                                             \
        for (int x = 0; x < w; x++) {                                                       \
            const float rounded = rintf(row[x]);                                            \
            const float above = rounded > (least) ? rounded : (least);                      \
            out[x] = (type)(int32_t)(above < (most) ? above : (most));                      \
        }                                                                                   \
    }

STORE(store_uint8, uint8_t, 0.0f, 255.0f)
STORE(store_int16, int16_t, -32768.0f, 32767.0f)
STORE(store_uint16, uint16_t, 0.0f, 65535.0f)
#undef STORE

/* Scratch for one row, or all NULL. */
static row_offsets new_offsets(int w)
{
    row_offsets o = {.dx = NULL};
    int32_t *block = malloc((size_t)w * 8 * sizeof(int32_t));
    if (block) {
        o.dx = block;
        o.dy = block + w;
        o.fx = (float *)(block + 2 * (size_t)w);
        o.fy = (float *)(block + 3 * (size_t)w);
        o.line = (float *)(block + 4 * (size_t)w);
        o.between = (float *)(block + 5 * (size_t)w);
        o.steps = (uint8_t *)(block + 7 * (size_t)w);
    }
    return o;
}

/* What a warp reads and writes beside the displacements, for an image or for a mask. */
typedef struct {
    const float *src, *fill;
    int interpolation;
    pf_pixel type;
    void *out;
    float *lengths;      /* or NULL */
    const uint8_t *mask; /* NULL: every pixel inside the image is True */
    uint8_t *flags;      /* of an image: or NULL */
} target;

typedef void (*row_function)(const target *t, int y, int h, int w, row_offsets o);

static int for_all_rows(row_function function, const target *t, const pf_field *field, int h, int w, float h_row,
                        float h_col, int n_threads)
{
    int failed = 0;
    (void)n_threads;

#ifdef _OPENMP
#pragma omp parallel num_threads(n_threads) if (n_threads > 1) reduction(| : failed)
#endif
    {
        row_offsets o = new_offsets(w);
        failed = o.dx == NULL;
#ifdef _OPENMP
#pragma omp for schedule(static)
#endif
        for (int y = 0; y < h; y++) {
            if (!o.dx) continue;
            find_row(field, y, w, &o);
            split_row(w, 1.0f / h_col, 1.0f / h_row, (float)(h + w), o);
            function(t, y, h, w, o);
        }
        free(o.dx);
    }
    return failed ? PF_ENOMEM : PF_OK;
}

static void valid_row(row_offsets o, int y, int h, int w, uint8_t *PF_RESTRICT out)
{
    const int32_t *PF_RESTRICT dx = o.dx, *PF_RESTRICT dy = o.dy;
    const float *PF_RESTRICT fx = o.fx, *PF_RESTRICT fy = o.fy;
    PF_SIMD
    for (int x = 0; x < w; x++) out[x] = (uint8_t)(inside(x + dx[x], fx[x], w) & inside(y + dy[x], fy[x], h));
}

/* Row of in-bounds flags; with a mask also the nearest neighbour's value. */
static void flags_row(const target *t, int y, int h, int w, row_offsets o)
{
    uint8_t *out = t->flags + (size_t)y * w;
    valid_row(o, y, h, w, out);
    for (int x = 0; t->mask && x < w; x++) {
        if (!out[x]) continue;
        const int sy = y + o.dy[x] + (o.fy[x] >= 0.5f), sx = x + o.dx[x] + (o.fx[x] >= 0.5f);
        out[x] = t->mask[(size_t)sy * w + sx] != 0;
    }
}

static int flags(const uint8_t *mask, const float *u, const float *v, int h, int w, uint8_t *out, int n_threads)
{
    if (h <= 0 || w <= 0) return PF_ESHAPE;
    const target t = {.mask = mask, .flags = out};
    const pf_field field = {.u = u, .v = v};
    return for_all_rows(flags_row, &t, &field, h, w, 1.0f, 1.0f, n_threads);
}

static int warp_mask(const uint8_t *src, const float *u, const float *v, int h, int w, uint8_t *out, int n_threads)
{
    return src ? flags(src, u, v, h, w, out, n_threads) : PF_EVALUE;
}

static int valid_mask(const float *u, const float *v, int h, int w, uint8_t *out, int n_threads)
{
    return flags(NULL, u, v, h, w, out, n_threads);
}

/* Each of BLOCK lanes has sums of its own, added in their order: the same bits with vectors of any width. */
typedef struct {
    float length[BLOCK], largest[BLOCK], u[BLOCK], v[BLOCK];
} lane_sums;

PF_INLINE void add_lanes(const float *PF_RESTRICT u, const float *PF_RESTRICT v, const int n, lane_sums *PF_RESTRICT sums)
{
    PF_SIMD
    for (int i = 0; i < n; i++) {
        const float length = sqrtf(u[i] * u[i] + v[i] * v[i]);
        sums->length[i] += length;
        sums->largest[i] = length > sums->largest[i] ? length : sums->largest[i];
        sums->u[i] += u[i];
        sums->v[i] += v[i];
    }
}

static void lengths_row(const float *u, const float *v, int w, float *out)
{
    lane_sums sums = {{0}, {0}, {0}, {0}};
    const int whole = w / BLOCK * BLOCK;
    for (int x = 0; x < whole; x += BLOCK) add_lanes(u + x, v + x, BLOCK, &sums);
    add_lanes(u + whole, v + whole, w - whole, &sums);
    for (int k = 0; k < PF_LENGTHS; k++) out[k] = 0.0f;
    for (int i = 0; i < BLOCK; i++) {
        out[PF_SUM] += sums.length[i];
        out[PF_LARGEST] = sums.largest[i] > out[PF_LARGEST] ? sums.largest[i] : out[PF_LARGEST];
        out[PF_SUM_U] += sums.u[i];
        out[PF_SUM_V] += sums.v[i];
    }
    out[PF_STRETCH] = u[w - 1] - u[0];
}

static void image_row(const target *t, int y, int h, int w, row_offsets o)
{
    const size_t row = (size_t)y * w;
    if (t->fill && y + 2 < h) { /* a line of the cache at either end of a row is hardly ever there */
        PF_PREFETCH(t->fill + row + 2 * (size_t)w);
        PF_PREFETCH(t->fill + row + 3 * (size_t)w - 1);
    }
    float *line = t->type == PF_FLOAT32 ? (float *)t->out + row : o.line;
    warp_row(t->src, t->fill ? t->fill + row : NULL, y, h, w, t->interpolation, o, line);
    if (t->flags) valid_row(o, y, h, w, t->flags + row);
    if (t->lengths) lengths_row(o.u, o.v, w, t->lengths + (size_t)y * PF_LENGTHS);
    if (t->type == PF_UINT8) store_uint8(line, w, (uint8_t *)t->out + row);
    if (t->type == PF_INT16) store_int16(line, w, (int16_t *)t->out + row);
    if (t->type == PF_UINT16) store_uint16(line, w, (uint16_t *)t->out + row);
}

static int warp_image(const float *src, const pf_field *field, const float *fill, int h, int w, float h_row, float h_col,
                      int interpolation, int type, void *out, uint8_t *valid, float *lengths, int n_threads)
{
    if (h <= 0 || w <= 0) return PF_ESHAPE;
    if (interpolation < PF_NEAREST || interpolation > PF_CUBIC || !(h_row > 0) || !(h_col > 0)) return PF_EVALUE;
    if (type < PF_FLOAT32 || type > PF_UINT16) return PF_EVALUE;
    if (field->rows && (field->rows->size != h || field->rows->taps <= 0 || field->rows->taps % PF_TAPS)) return PF_EVALUE;
    const target t = {.src = src, .fill = fill, .interpolation = interpolation, .type = (pf_pixel)type, .out = out,
                      .flags = valid, .lengths = lengths};
    return for_all_rows(image_row, &t, field, h, w, h_row, h_col, n_threads);
}

const pf_warp_kernels PF_TABLE(pf_warp) = {warp_image, warp_mask, valid_mask};
