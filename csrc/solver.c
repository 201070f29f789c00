/* Red-black SOR as a wavefront.
 *
 * Written in the full unknown U = u + du, V = v + dv, everything that is constant between two updates of psi is
 * folded into coefficients, so that one step at a pixel is
 *     U <- (1 - omega) U + R1 (sum of neighbours of U + B1 - C V)     and the same for V with the new U.
 *
 *  1. The iterations are cut into blocks of update_lag sweeps. A block is a list of stages over rows: one refresh
 *     (psi and the coefficients of a row) and two half sweeps (colour 0, colour 1) per sweep.
 *  2. A stage may do row r once the stage before it has left the rows that r touches. At step t every stage does row
 *     t - delay[stage], in order: the stages run down the image as one wave, a row apart.
 *  3. Only the rows inside the wavefront are live: coefficients are kept in a ring of rows per block and never
 *     exist for the whole image. As many blocks share one wave as keep it inside the cache.
 *  4. Threads take the waves in turn; a wave follows the one before it a few rows behind. The operations on a pixel and
 *     their order are the same for any number of threads, and so are the bits.
 *  5. Edges that would leave the image have weight zero (Neumann boundary). Padding lanes have R = 0 and stay zero, so
 *     that the loops run over whole vectors without tests.
 *
 * With a robust smoothness term every edge has its own weight and two more planes (to the right, down) join the
 * coefficients; with the quadratic one the weights are two constants, and R carries them.
 */
#include "solver.h"

#include <string.h>

#include "power.h"
#include "split.h"
#include "tensor.h"

#define OMEGA 1.95f        /* over-relaxation, as in the MATLAB toolbox */
#define EPSILON 1.0e-5f    /* of the generalised Charbonnier penalty */
#define CACHE_BYTES 1000000 /* share of a core's own cache that the live rows may take */
#define MAX_STAGES 1024
#define BEHIND 4            /* rows a wave stays behind the one before it: a refresh reads two rows ahead */

enum { R1, R2, B1, B2, C, EAST, SOUTH, N_COEFFICIENTS };

typedef struct {
    const pf_solver_params *p;
    const float *tensor; /* (n_channels) (h, 2, 6, stride) */
    size_t stride;
    int lanes;           /* elements per row and colour, whole vectors */
    int robust;
    int planes;          /* coefficient planes */
    int depth;           /* rows in a ring, a power of two */
    float k_x, k_y;      /* alpha / spacing^2 */
    float *flow;         /* (h + 2, 2, 2, stride) U, V with one ghost row above and below */
    float *base;         /* (h, 2, 2, stride) u, v */
    float *map;          /* (h, 2, n_channels, stride) weight map, or NULL */
    float *horizontal;   /* (2, stride) per first column: sum of a pixel's horizontal edge weights / k_y */
    float *omega;        /* (2, stride) per first column: over-relaxation, 0 in the padding */
    float *zeros;        /* (stride) */
    float *psi;          /* (rings, 2, 2, stride) smoothness weights of the two newest rows */
    int *progress;       /* (waves,) rows finished */
    float *ring;         /* (rings, depth, 2, planes, stride) */
} level;

/* What one stage of the wavefront does. */
typedef struct {
    int ring;
    int colour; /* -1: refresh */
    int delay;
} stage;

static float *flow_row(const level *l, int y, int colour) { return pf_split(l->flow, 2, l->stride, y + 1, colour, 0); }

static float *ring_row(const level *l, int ring, int y, int colour)
{
    const size_t row = (size_t)ring * l->depth + (size_t)(y & (l->depth - 1));
    return pf_split(l->ring, l->planes, l->stride, 0, colour, 0) + row * 2 * l->planes * l->stride;
}

static float *psi_row(const level *l, int ring, int y, int colour)
{
    return l->psi + (((size_t)ring * 2 + (y & 1)) * 2 + colour) * l->stride + PF_PAD;
}

/* ---- refresh ------------------------------------------------------------------------------------------- */

/* Repeat the border pixels of row y in the ghost elements that the gradient reads. */
static void repeat_border(const level *l, int y)
{
    const int h = l->p->h, w = l->p->w, last_colour = (y + w - 1) & 1;
    for (int plane = 0; plane < 2; plane++) {
        float *first = flow_row(l, y, y & 1) + plane * l->stride;
        flow_row(l, y, 1 - (y & 1))[plane * (ptrdiff_t)l->stride - 1] = first[0];
        const float last = flow_row(l, y, last_colour)[plane * l->stride + (w - 1) / 2];
        flow_row(l, y, 1 - last_colour)[plane * l->stride + w / 2] = last;
    }
    for (int edge = 0; edge < 2; edge++) {
        if (y != (edge ? h - 1 : 0)) continue;
        for (int colour = 0; colour < 2; colour++) /* the pixel outside has the other colour */
            memcpy(flow_row(l, edge ? h : -1, 1 - colour), flow_row(l, y, colour),
                   (2 * l->stride - PF_PAD) * sizeof(float));
    }
}

static void gradient_penalty(const float *PF_RESTRICT left, const float *PF_RESTRICT right,
                             const float *PF_RESTRICT above, const float *PF_RESTRICT below, size_t stride, int lanes,
                             float h_row, float h_col, float a, float *PF_RESTRICT psi)
{
    const float per_x = 0.5f / h_col, per_y = 0.5f / h_row;
    PF_SIMD
    for (int j = 0; j < lanes; j++) {
        const float ux = (right[j] - left[j]) * per_x, uy = (below[j] - above[j]) * per_y;
        const float vx = (right[j + stride] - left[j + stride]) * per_x;
        const float vy = (below[j + stride] - above[j + stride]) * per_y;
        psi[j] = a * pf_power(ux * ux + uy * uy + vx * vx + vy * vy + EPSILON, a - 1.0f);
    }
}

static void smoothness_row(const level *l, int ring, int y)
{
    for (int colour = 0; colour < 2; colour++) {
        const int other = 1 - colour, o = pf_first_column(y, colour);
        const float *side = flow_row(l, y, other);
        gradient_penalty(side + o - 1, side + o, flow_row(l, y - 1, other), flow_row(l, y + 1, other), l->stride,
                         l->lanes, l->p->h_row, l->p->h_col, l->p->a_smooth, psi_row(l, ring, y, colour));
    }
}

static void edge_weights(const float *PF_RESTRICT own, const float *PF_RESTRICT east, const float *PF_RESTRICT south,
                         float half_k_x, float half_k_y, int lanes, size_t stride, float *PF_RESTRICT c)
{
    PF_SIMD
    for (int j = 0; j < lanes; j++) {
        c[j + EAST * stride] = half_k_x * (own[j] + east[j]);
        c[j + SOUTH * stride] = half_k_y * (own[j] + south[j]);
    }
}

/* Weights of the edges of row y to the right and down. */
static void edges_row(const level *l, int ring, int y)
{
    const int h = l->p->h, w = l->p->w;
    for (int k = y == 0 ? 0 : y + 2; k <= y + 2 && k < h; k++) repeat_border(l, k);
    if (y == 0) smoothness_row(l, ring, 0);
    if (y + 1 < h) smoothness_row(l, ring, y + 1);
    for (int colour = 0; colour < 2; colour++) {
        const int other = 1 - colour, o = pf_first_column(y, colour), n = pf_split_count(y, colour, w);
        float *c = ring_row(l, ring, y, colour);
        edge_weights(psi_row(l, ring, y, colour), psi_row(l, ring, y, other) + o, psi_row(l, ring, y + 1, other),
                     0.5f * l->k_x, 0.5f * l->k_y, l->lanes, l->stride, c);
        const int at_right = colour == ((y + w - 1) & 1) ? n - 1 : n;
        for (int j = at_right; j < l->lanes; j++) c[j + EAST * l->stride] = 0.0f;
        c[(ptrdiff_t)(EAST * l->stride) - 1] = 0.0f;
        if (y + 1 == h) memset(c + SOUTH * l->stride, 0, (size_t)l->lanes * sizeof(float));
    }
}

/* One row and colour of a channel: tensor, U and V, u and v; weights of its data term. */
typedef struct {
    const float *tensor, *flow, *base, *map;
    float weight, a;
} channel_row;

/* The edges of a row and colour: sums of the constant ones in units of k, or the weights to the west and north. */
typedef struct {
    const float *horizontal, *omega, *west, *north;
    float vertical, k;
} edge_row;

/* Data term of a channel, summed over channels in the coefficient planes:
 *   R1: d J11, R2: d J22, C: d J12, B1: d (J11 u + J12 v - J13), B2: d (J12 u + J22 v - J23);
 * with the last channel they become the coefficients of the sweep, in units of k. */
PF_INLINE void refresh_row(channel_row in, edge_row edge, int lanes, size_t stride, float *PF_RESTRICT c,
                           const int first, const int last, const int robust_data, const int robust_smooth)
{
    const float per_k = 1.0f / edge.k;
    PF_SIMD
    for (int i = 0; i < lanes; i++) {
        const float *j = in.tensor + i;
        const float j11 = j[0], j22 = j[stride], j33 = j[2 * stride];
        const float j12 = j[3 * stride], j13 = j[4 * stride], j23 = j[5 * stride];
        const float u = in.base[i], v = in.base[i + stride], du = in.flow[i] - u, dv = in.flow[i + stride] - v;
        float d = in.weight;
        if (robust_data) {
            float s = j11 * du * du + j22 * dv * dv + 2.0f * (j12 * du * dv + j13 * du + j23 * dv) + j33;
            s = s > 0.0f ? s : 0.0f;
            d *= in.a * pf_power(s + EPSILON, in.a - 1.0f);
        }
        if (in.map) d *= in.map[i];
        float a11 = d * j11, a22 = d * j22, a12 = d * j12;
        float b1 = d * (j11 * u + j12 * v - j13), b2 = d * (j12 * u + j22 * v - j23);
        if (!first) {
            a11 += c[i + R1 * stride];
            a22 += c[i + R2 * stride];
            a12 += c[i + C * stride];
            b1 += c[i + B1 * stride];
            b2 += c[i + B2 * stride];
        }
        if (last) {
            float edges = edge.horizontal[i] + edge.vertical;
            if (robust_smooth) edges += c[i + EAST * stride] + c[i + SOUTH * stride] + edge.west[i] + edge.north[i];
            const float d1 = edges + per_k * a11, d2 = edges + per_k * a22, both = edge.omega[i] / (d1 * d2);
            a11 = both * d2;
            a22 = both * d1;
            a12 *= per_k;
            b1 *= per_k;
            b2 *= per_k;
        }
        c[i + R1 * stride] = a11;
        c[i + R2 * stride] = a22;
        c[i + C * stride] = a12;
        c[i + B1 * stride] = b1;
        c[i + B2 * stride] = b2;
    }
}

static const float *north_edges(const level *l, int ring, int y, int other)
{
    return y > 0 ? ring_row(l, ring, y - 1, other) + SOUTH * l->stride : l->zeros + PF_PAD;
}

static edge_row edges_of(const level *l, int ring, int y, int colour)
{
    const int other = 1 - colour, o = pf_first_column(y, colour);
    edge_row e = {.horizontal = l->horizontal + (size_t)o * l->stride + PF_PAD,
                  .omega = l->omega + (size_t)o * l->stride + PF_PAD,
                  .vertical = (float)((y > 0) + (y < l->p->h - 1)),
                  .k = l->k_y};
    if (l->robust) {
        e.west = ring_row(l, ring, y, other) + EAST * l->stride + o - 1;
        e.north = north_edges(l, ring, y, other);
        e.vertical = 0.0f;
        e.k = 1.0f;
    }
    return e;
}

static channel_row channel_of(const level *l, int y, int colour, int k)
{
    const pf_solver_params *p = l->p;
    const float *tensor = l->tensor + (size_t)k * p->h * 2 * PF_TENSOR_PLANES * l->stride;
    return (channel_row){.tensor = pf_split_const(tensor, PF_TENSOR_PLANES, l->stride, y, colour, 0),
                         .flow = flow_row(l, y, colour),
                         .base = pf_split(l->base, 2, l->stride, y, colour, 0),
                         .map = l->map ? pf_split(l->map, p->n_channels, l->stride, y, colour, k) : NULL,
                         .weight = p->weight[k],
                         .a = p->a_data[k]};
}

static void refresh(const level *l, int ring, int y)
{
    const int n = l->p->n_channels;
    if (l->robust) edges_row(l, ring, y);
    for (int colour = 0; colour < 2; colour++) {
        float *c = ring_row(l, ring, y, colour);
        const edge_row edge = edges_of(l, ring, y, colour);
        for (int k = 0; k < n; k++) {
            channel_row in = channel_of(l, y, colour, k);
            if (n > 1 || in.map || in.a == 1.0f)
                refresh_row(in, edge, l->lanes, l->stride, c, k == 0, k == n - 1, in.a != 1.0f, l->robust);
            else if (l->robust) refresh_row(in, edge, l->lanes, l->stride, c, 1, 1, 1, 1);
            else refresh_row(in, edge, l->lanes, l->stride, c, 1, 1, 1, 0);
        }
    }
}

/* ---- half sweep ---------------------------------------------------------------------------------------- */

typedef struct {
    const float *west, *east, *north, *south;             /* U of the neighbours; V one stride further */
    const float *west_edge, *north_edge;                  /* robust only */
} neighbours;

PF_INLINE void sweep(neighbours n, const float *PF_RESTRICT c, float ratio, int lanes, size_t stride,
                         float *PF_RESTRICT flow, const int robust)
{
    const float *PF_RESTRICT we = n.west, *PF_RESTRICT ea = n.east, *PF_RESTRICT no = n.north, *PF_RESTRICT so = n.south;
    const float *PF_RESTRICT kw = n.west_edge, *PF_RESTRICT kn = n.north_edge;
    PF_SIMD
    for (int i = 0; i < lanes; i++) {
        float su, sv;
        if (robust) {
            const float ke = c[i + EAST * stride], ks = c[i + SOUTH * stride];
            su = (kw[i] * we[i] + ke * ea[i]) + (kn[i] * no[i] + ks * so[i]);
            sv = (kw[i] * we[i + stride] + ke * ea[i + stride]) + (kn[i] * no[i + stride] + ks * so[i + stride]);
        } else {
            su = ratio * (we[i] + ea[i]) + (no[i] + so[i]);
            sv = ratio * (we[i + stride] + ea[i + stride]) + (no[i + stride] + so[i + stride]);
        }
        const float v = flow[i + stride];
        const float u = (1.0f - OMEGA) * flow[i] + c[i + R1 * stride] * (su + c[i + B1 * stride] - c[i + C * stride] * v);
        flow[i] = u;
        flow[i + stride] = (1.0f - OMEGA) * v + c[i + R2 * stride] * (sv + c[i + B2 * stride] - c[i + C * stride] * u);
    }
}

static void half_sweep(const level *l, int ring, int y, int colour)
{
    const int other = 1 - colour, o = pf_first_column(y, colour);
    const float *side = flow_row(l, y, other), *c = ring_row(l, ring, y, colour);
    neighbours n = {side + o - 1, side + o, flow_row(l, y - 1, other), flow_row(l, y + 1, other), NULL, NULL};
    float *flow = flow_row(l, y, colour);
    if (l->robust) {
        n.west_edge = ring_row(l, ring, y, other) + EAST * l->stride + o - 1;
        n.north_edge = north_edges(l, ring, y, other);
        sweep(n, c, 0.0f, l->lanes, l->stride, flow, 1);
    } else {
        sweep(n, c, l->k_x / l->k_y, l->lanes, l->stride, flow, 0);
    }
}

/* ---- wavefront ----------------------------------------------------------------------------------------- */

static int sweeps_per_block(const pf_solver_params *p) { return pf_min_int(p->update_lag, p->iterations); }

static int count_blocks(const pf_solver_params *p)
{
    const int sweeps = sweeps_per_block(p);
    return (p->iterations + sweeps - 1) / sweeps;
}

static int blocks_per_wave(const level *l, int n_threads)
{
    const size_t row = 2 * (size_t)(l->planes + PF_TENSOR_PLANES * l->p->n_channels + 4) * l->stride * sizeof(float);
    const int in_cache = (int)(CACHE_BYTES / (row * (size_t)l->depth));
    const int in_list = MAX_STAGES / (1 + 2 * sweeps_per_block(l->p));
    const int share = (count_blocks(l->p) + n_threads - 1) / n_threads;
    return pf_max_int(1, pf_min_int(pf_min_int(in_cache, in_list), share));
}

/* Stages of the blocks first .. end - 1, with rings from `ring` on. */
static int list_stages(const level *l, int first, int end, int ring, stage *stages)
{
    int n = 0, delay = 0;
    for (int block = first; block < end; block++, ring++) {
        const int done = block * sweeps_per_block(l->p);
        const int sweeps = pf_min_int(sweeps_per_block(l->p), l->p->iterations - done);
        delay += n ? 2 : 0; /* the smoothness weights of row r need rows up to r + 2 finished */
        stages[n++] = (stage){ring, -1, delay};
        for (int k = 0; k < 2 * sweeps; k++) stages[n++] = (stage){ring, k & 1, ++delay};
    }
    return n;
}

static int rows_done(const int *progress)
{
    int done;
#ifdef _OPENMP
#pragma omp atomic read seq_cst
#endif
    done = *progress;
    return done;
}

static void set_rows_done(int *progress, const int rows)
{
    (void)rows; /* some compilers do not see the use in the atomic write */
#ifdef _OPENMP
#pragma omp atomic write seq_cst
#endif
    *progress = rows;
}

static void run_wave(const level *l, const stage *stages, int n_stages, const int *before, int *progress)
{
    const int h = l->p->h, last = stages[n_stages - 1].delay;
    for (int t = 0; t < h + last; t++) {
        while (before && rows_done(before) < pf_min_int(t + BEHIND, h)) pf_yield();
        for (int s = 0; s < n_stages; s++) {
            const int y = t - stages[s].delay;
            if (y < 0 || y >= h) continue;
            if (stages[s].colour < 0) refresh(l, stages[s].ring, y);
            else half_sweep(l, stages[s].ring, y, stages[s].colour);
        }
        set_rows_done(progress, t + 1 - last);
    }
}

static void iterate(const level *l, int n_threads)
{
    const int n_blocks = count_blocks(l->p), per_wave = blocks_per_wave(l, n_threads);
    const int n_waves = (n_blocks + per_wave - 1) / per_wave;
    memset(l->progress, 0, (size_t)n_waves * sizeof(int));
#ifdef _OPENMP
#pragma omp parallel for num_threads(n_threads) if (n_threads > 1) schedule(static, 1)
#endif
    for (int wave = 0; wave < n_waves; wave++) {
        stage stages[MAX_STAGES];
        const int first = wave * per_wave, end = pf_min_int(first + per_wave, n_blocks);
        const int n = list_stages(l, first, end, wave % n_threads * per_wave, stages);
        run_wave(l, stages, n, wave ? l->progress + wave - 1 : NULL, l->progress + wave);
    }
}

/* Lay the level out in scratch (or, with scratch NULL, only count); returns the floats it takes. */
static size_t lay_out(level *l, const pf_solver_params *p, int n_threads, float *scratch)
{
    const size_t stride = pf_split_stride(p->w);
    l->p = p;
    l->stride = stride;
    l->lanes = (((p->w + 1) / 2 + PF_PAD - 1) / PF_PAD) * PF_PAD;
    l->robust = p->a_smooth != 1.0f;
    l->planes = l->robust ? N_COEFFICIENTS : EAST;
    l->depth = 1;
    while (l->depth < 2 * sweeps_per_block(p) + 2) l->depth *= 2;
    l->k_x = p->alpha_x / (p->h_col * p->h_col);
    l->k_y = p->alpha_y / (p->h_row * p->h_row);

    const size_t rings = (size_t)blocks_per_wave(l, n_threads) * n_threads;
    size_t used = 0;
#define TAKE(field, size)                              \
    do {                                               \
        l->field = scratch ? scratch + used : NULL;    \
        used += (size);                                \
    } while (0)
    TAKE(flow, ((size_t)p->h + 2) * 4 * stride + PF_PAD);
    TAKE(base, (size_t)p->h * 4 * stride + PF_PAD);
    TAKE(map, p->weight_map ? (size_t)p->h * 2 * p->n_channels * stride + PF_PAD : 0);
    TAKE(horizontal, 2 * stride + PF_PAD);
    TAKE(omega, 2 * stride + PF_PAD);
    TAKE(zeros, stride + PF_PAD);
    TAKE(psi, l->robust ? rings * 4 * stride + PF_PAD : 0);
    TAKE(ring, rings * l->depth * 2 * l->planes * stride + PF_PAD);
#undef TAKE
    l->progress = (int *)(scratch ? scratch + used : NULL);
    used += (size_t)count_blocks(p) * sizeof(int) / sizeof(float);
    if (!p->weight_map) l->map = NULL;
    return used;
}

static void clear_padding(level *l, int y)
{
    for (int colour = 0; colour < 2; colour++)
        for (int plane = 0; plane < 2; plane++) {
            float *line = pf_split(l->base, 2, l->stride, y, colour, plane);
            const int n = pf_split_count(y, colour, l->p->w);
            memset(line - PF_PAD, 0, PF_PAD * sizeof(float));
            memset(line + n, 0, (l->stride - PF_PAD - (size_t)n) * sizeof(float));
        }
}

/* The displacement into base and flow, everything around it zero; the sums of horizontal edge weights. */
static void fill(level *l, const float *u, const float *v)
{
    const pf_solver_params *p = l->p;
    const float ratio = l->k_x / l->k_y;
    for (int y = 0; y < p->h; y++) {
        const size_t row = (size_t)y * p->w;
        clear_padding(l, y);
        pf_split_row(u + row, p->w, y, l->base, 2, l->stride, 0);
        pf_split_row(v + row, p->w, y, l->base, 2, l->stride, 1);
        for (int k = 0; l->map && k < p->n_channels; k++)
            pf_split_row(p->weight_map + ((size_t)k * p->h + y) * p->w, p->w, y, l->map, p->n_channels, l->stride, k);
    }
    memcpy(flow_row(l, 0, 0) - PF_PAD, l->base, (size_t)p->h * 4 * l->stride * sizeof(float));
    memset(flow_row(l, -1, 0) - PF_PAD, 0, 4 * l->stride * sizeof(float));
    memset(flow_row(l, p->h, 0) - PF_PAD, 0, 4 * l->stride * sizeof(float));
    memset(l->zeros, 0, l->stride * sizeof(float));

    for (int o = 0; o < 2; o++)
        for (int j = 0; j < l->lanes; j++) {
            const int x = 2 * j + o, edges = (x > 0) + (x < p->w - 1);
            const size_t at = (size_t)o * l->stride + PF_PAD + j;
            l->omega[at] = x < p->w ? OMEGA : 0.0f;
            l->horizontal[at] = x >= p->w ? 1.0f : l->robust ? 0.0f : ratio * (float)edges;
        }
}

static int check(const pf_solver_params *p, int n_threads)
{
    if (p->h <= 0 || p->w <= 0 || (size_t)p->h * p->w < 2 || p->n_channels <= 0) return PF_ESHAPE;
    if (p->iterations < 1 || p->update_lag < 1 || 2 * sweeps_per_block(p) >= MAX_STAGES || n_threads < 1) return PF_EVALUE;
    if (!(p->alpha_x > 0) || !(p->alpha_y > 0) || !(p->h_row > 0) || !(p->h_col > 0) || !(p->a_smooth > 0)) return PF_EVALUE;
    return PF_OK;
}

static size_t scratch_size(const pf_solver_params *p, int n_threads)
{
    level l;
    if (check(p, n_threads) != PF_OK) return 1;
    return lay_out(&l, p, n_threads, NULL) + PF_PAD; /* room to align */
}

static int solve(const pf_solver_params *p, const float *tensor, const float *u, const float *v, float *du, float *dv,
                 float *scratch, int n_threads)
{
    const int status = check(p, n_threads);
    if (status != PF_OK) return status;
    level l;
    lay_out(&l, p, n_threads, scratch + (-((uintptr_t)scratch / sizeof(float)) & (PF_PAD - 1)));
    l.tensor = tensor;
    fill(&l, u, v);
    iterate(&l, n_threads);

    for (int y = 0; y < p->h; y++) {
        const size_t row = (size_t)y * p->w;
        pf_merge_row(flow_row(&l, 0, 0) - PF_PAD, 2, l.stride, y, 0, p->w, du + row);
        pf_merge_row(flow_row(&l, 0, 0) - PF_PAD, 2, l.stride, y, 1, p->w, dv + row);
        for (int x = 0; x < p->w; x++) {
            du[row + x] -= u[row + x];
            dv[row + x] -= v[row + x];
        }
    }
    return PF_OK;
}

const pf_solver_kernels PF_TABLE(pf_solver) = {scratch_size, solve};
