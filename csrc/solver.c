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
 * With a robust smoothness term every edge has its own weight, kept in two planes (to the right, down) beside the
 * coefficients; with the quadratic one the weights are two constants, and R carries them.
 */
#include "solver.h"

#include <string.h>

#include "atomic.h"
#include "penalty.h"
#include "split.h"
#include "tensor.h"

#define OMEGA 1.95f        /* over-relaxation, as in the MATLAB toolbox */
#define CACHE_BYTES 1000000 /* share of a core's own cache that the live rows may take */
#define MAX_STAGES 1024
/* Rows that must be finished beyond the row t that a wave refreshes. The refresh reads the rows up to t + 2, which makes
 * three; it also writes the ghosts of row t + 2, which the wave before still reads while it sweeps row t + 3: four. */
#define BEHIND 4

enum { R1, R2, B1, B2, C, N_COEFFICIENTS };
enum { EAST, SOUTH, N_EDGES };

typedef struct {
    const pf_solver_params *p;
    const float *tensor; /* (n_channels) (h, 2, groups, 6, PF_PAD) */
    size_t stride;
    size_t lanes;        /* elements per row and colour, whole groups */
    pf_penalty smoothness;
    int robust;          /* the smoothness weights change from pixel to pixel */
    int depth;           /* rows in a ring, a power of two */
    float k_x, k_y;      /* alpha / spacing^2 */
    float ratio;         /* k_x / k_y */
    float *flow;         /* (h + 2, 2, 2, stride) U, V with one ghost row above and below */
    float *base;         /* (h, 2, 2, stride) u, v */
    float *map;          /* (h, 2, n_channels, stride) weight map, or NULL */
    float *horizontal;   /* (2, stride) per first column: sum of a pixel's horizontal edge weights / k_y */
    float *omega;        /* (2, stride) per first column: over-relaxation, 0 in the padding */
    float *zeros;        /* (stride) */
    float *ones;         /* (stride) */
    float *psi;          /* (rings, 2, 2, stride) smoothness weights of the two newest rows */
    pf_atomic_int *progress; /* (waves,) rows finished */
    float *ring;         /* (rings, depth, 2, groups, N_COEFFICIENTS, PF_PAD) */
    float *edges;        /* (rings, depth, 2, N_EDGES, stride), robust only */
} level;

/* What one stage of the wavefront does. */
typedef struct {
    int ring;
    int colour; /* -1: refresh */
    int delay;
} stage;

static float *flow_row(const level *l, int y, int colour) { return pf_split(l->flow, 2, l->stride, y + 1, colour, 0); }

static size_t ring_index(const level *l, int ring, int y, int colour)
{
    return (((size_t)ring * l->depth) + (size_t)(y & (l->depth - 1))) * 2 + (size_t)colour;
}

static float *ring_row(const level *l, int ring, int y, int colour)
{
    return l->ring + ring_index(l, ring, y, colour) * l->lanes * N_COEFFICIENTS;
}

static float *edge_plane(const level *l, int ring, int y, int colour, int plane)
{
    return l->edges + (ring_index(l, ring, y, colour) * N_EDGES + plane) * l->stride + PF_PAD;
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

PF_INLINE void gradient_penalty(const float *PF_RESTRICT left, const float *PF_RESTRICT right,
                             const float *PF_RESTRICT above, const float *PF_RESTRICT below, size_t stride, size_t lanes,
                             float h_row, float h_col, float a, const pf_penalty penalty, float *PF_RESTRICT psi)
{
    const float per_x = 0.5f / h_col, per_y = 0.5f / h_row;
    PF_SIMD
    for (size_t j = 0; j < lanes; j++) {
        const float ux = (right[j] - left[j]) * per_x, uy = (below[j] - above[j]) * per_y;
        const float vx = (right[j + stride] - left[j + stride]) * per_x;
        const float vy = (below[j + stride] - above[j + stride]) * per_y;
        psi[j] = pf_penalty_weight(penalty, ux * ux + uy * uy + vx * vx + vy * vy, a);
    }
}

static void smoothness_row(const level *l, int ring, int y)
{
    for (int colour = 0; colour < 2; colour++) {
        const int other = 1 - colour, o = pf_first_column(y, colour);
        const float *side = flow_row(l, y, other);
        switch (l->smoothness) {
#define SMOOTHNESS(name, weight)                                                                                    \
        case name:                                                                                                  \
            gradient_penalty(side + o - 1, side + o, flow_row(l, y - 1, other), flow_row(l, y + 1, other), l->stride, \
                             l->lanes, l->p->h_row, l->p->h_col, l->p->a_smooth, name, psi_row(l, ring, y, colour)); \
            break;
            PF_PENALTIES(SMOOTHNESS)
#undef SMOOTHNESS
        default: break;
        }
    }
}

static void edge_weights(const float *PF_RESTRICT own, const float *PF_RESTRICT neighbour, float half_k, size_t lanes,
                         float *PF_RESTRICT edge)
{
    PF_SIMD
    for (size_t j = 0; j < lanes; j++) edge[j] = half_k * (own[j] + neighbour[j]);
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
        const float *own = psi_row(l, ring, y, colour);
        float *east = edge_plane(l, ring, y, colour, EAST), *south = edge_plane(l, ring, y, colour, SOUTH);
        edge_weights(own, psi_row(l, ring, y, other) + o, 0.5f * l->k_x, l->lanes, east);
        const int at_right = colour == ((y + w - 1) & 1) ? n - 1 : n;
        for (int j = at_right; j < (int)l->lanes; j++) east[j] = 0.0f;
        east[-1] = 0.0f;
        if (y + 1 == h) memset(south, 0, l->lanes * sizeof(float));
        else edge_weights(own, psi_row(l, ring, y + 1, other), 0.5f * l->k_y, l->lanes, south);
    }
}

/* One row and colour of a channel: tensor, U and V, u and v; weights of its data term. */
typedef struct {
    const float *tensor, *flow, *base, *map;
    float weight, a;
} channel_row;

/* The edges of a row and colour: sums of the constant ones in units of k, or the weights of all four. */
typedef struct {
    const float *horizontal, *omega, *west, *east, *north, *south;
    float vertical, k;
} edge_row;

/* Data term of a channel at a pixel; sums of them over the channels are what the coefficients are made of. */
typedef struct {
    float a11, a22, a12, b1, b2; /* d J11, d J22, d J12, d (J11 u + J12 v - J13), d (J12 u + J22 v - J23) */
} data_term;

/* j: interleaved tensor of the pixel i. */
PF_INLINE data_term data_at(const channel_row *in, const float *j, size_t i, size_t stride,
                            const pf_penalty penalty)
{
    const float j11 = j[PF_J11 * PF_PAD], j22 = j[PF_J22 * PF_PAD], j33 = j[PF_J33 * PF_PAD];
    const float j12 = j[PF_J12 * PF_PAD], j13 = j[PF_J13 * PF_PAD], j23 = j[PF_J23 * PF_PAD];
    const float u = in->base[i], v = in->base[i + stride], du = in->flow[i] - u, dv = in->flow[i + stride] - v;
    float s = j11 * du * du + j22 * dv * dv + 2.0f * (j12 * du * dv + j13 * du + j23 * dv) + j33;
    s = s > 0.0f ? s : 0.0f;
    const float d = in->weight * pf_penalty_weight(penalty, s, in->a);
    return (data_term){d * j11, d * j22, d * j12, d * (j11 * u + j12 * v - j13), d * (j12 * u + j22 * v - j23)};
}

/* c: interleaved coefficients of the pixel i. */
PF_INLINE void fold_at(const edge_row *edge, float per_k, data_term t, size_t i, float *c, const int robust)
{
    float edges = edge->horizontal[i] + edge->vertical;
    if (robust) edges += edge->east[i] + edge->south[i] + edge->west[i] + edge->north[i];
    const float d1 = edges + per_k * t.a11, d2 = edges + per_k * t.a22, both = edge->omega[i] / (d1 * d2);
    c[R1 * PF_PAD] = both * d2;
    c[R2 * PF_PAD] = both * d1;
    c[B1 * PF_PAD] = per_k * t.b1;
    c[B2 * PF_PAD] = per_k * t.b2;
    c[C * PF_PAD] = per_k * t.a12;
}

/* The usual case in one pass: one channel, no weight map. */
PF_INLINE void refresh_one(channel_row in, edge_row edge, size_t lanes, size_t stride, float *PF_RESTRICT c,
                           const pf_penalty penalty, const int robust)
{
    const float per_k = 1.0f / edge.k;
    for (size_t first = 0; first < lanes; first += PF_PAD, c += N_COEFFICIENTS * PF_PAD, in.tensor += PF_TENSOR_PLANES * PF_PAD) {
        PF_SIMD
        for (size_t i = 0; i < PF_PAD; i++)
            fold_at(&edge, per_k, data_at(&in, in.tensor + i, first + i, stride, penalty), first + i, c + i, robust);
    }
}

/* Sum of the data terms over channels: R1, R2, C, B1, B2 hold a11, a22, a12, b1, b2 until `fold`. */
PF_INLINE void add_channel(channel_row in, size_t lanes, size_t stride, float *PF_RESTRICT c, const int fresh,
                           const pf_penalty penalty)
{
    for (size_t first = 0; first < lanes; first += PF_PAD, c += N_COEFFICIENTS * PF_PAD, in.tensor += PF_TENSOR_PLANES * PF_PAD) {
        PF_SIMD
        for (size_t i = 0; i < PF_PAD; i++) {
            const data_term t = data_at(&in, in.tensor + i, first + i, stride, penalty);
            const float d = in.map[first + i];
            c[i + R1 * PF_PAD] = (fresh ? 0.0f : c[i + R1 * PF_PAD]) + d * t.a11;
            c[i + R2 * PF_PAD] = (fresh ? 0.0f : c[i + R2 * PF_PAD]) + d * t.a22;
            c[i + C * PF_PAD] = (fresh ? 0.0f : c[i + C * PF_PAD]) + d * t.a12;
            c[i + B1 * PF_PAD] = (fresh ? 0.0f : c[i + B1 * PF_PAD]) + d * t.b1;
            c[i + B2 * PF_PAD] = (fresh ? 0.0f : c[i + B2 * PF_PAD]) + d * t.b2;
        }
    }
}

PF_INLINE void fold(edge_row edge, size_t lanes, float *PF_RESTRICT c, const int robust)
{
    const float per_k = 1.0f / edge.k;
    for (size_t first = 0; first < lanes; first += PF_PAD, c += N_COEFFICIENTS * PF_PAD) {
        PF_SIMD
        for (size_t i = 0; i < PF_PAD; i++) {
            const data_term t = {c[i + R1 * PF_PAD], c[i + R2 * PF_PAD], c[i + C * PF_PAD], c[i + B1 * PF_PAD],
                                 c[i + B2 * PF_PAD]};
            fold_at(&edge, per_k, t, first + i, c + i, robust);
        }
    }
}

static const float *north_edges(const level *l, int ring, int y, int other)
{
    return y > 0 ? edge_plane(l, ring, y - 1, other, SOUTH) : l->zeros + PF_PAD;
}

static edge_row edges_of(const level *l, int ring, int y, int colour)
{
    const int other = 1 - colour, o = pf_first_column(y, colour);
    edge_row e = {.horizontal = l->horizontal + (size_t)o * l->stride + PF_PAD,
                  .omega = l->omega + (size_t)o * l->stride + PF_PAD,
                  .vertical = (float)((y > 0) + (y < l->p->h - 1)),
                  .k = l->k_y};
    if (l->robust) {
        e.west = edge_plane(l, ring, y, other, EAST) + o - 1;
        e.east = edge_plane(l, ring, y, colour, EAST);
        e.north = north_edges(l, ring, y, other);
        e.south = edge_plane(l, ring, y, colour, SOUTH);
        e.vertical = 0.0f;
        e.k = 1.0f;
    }
    return e;
}

static channel_row channel_of(const level *l, int y, int colour, int k)
{
    const pf_solver_params *p = l->p;
    const size_t row = ((size_t)k * p->h + (size_t)y) * 2 + (size_t)colour;
    return (channel_row){.tensor = l->tensor + row * l->lanes * PF_TENSOR_PLANES,
                         .flow = flow_row(l, y, colour),
                         .base = pf_split(l->base, 2, l->stride, y, colour, 0),
                         .map = l->map ? pf_split(l->map, p->n_channels, l->stride, y, colour, k) : l->ones + PF_PAD,
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
        if (n == 1 && !l->map) {
            const channel_row in = channel_of(l, y, colour, 0);
            switch (pf_penalty_of(in.a)) {
#define REFRESH(name, weight)                                                          \
            case name:                                                                 \
                if (l->robust) refresh_one(in, edge, l->lanes, l->stride, c, name, 1); \
                else refresh_one(in, edge, l->lanes, l->stride, c, name, 0);           \
                break;
                PF_PENALTIES(REFRESH)
#undef REFRESH
            default: break;
            }
            continue;
        }
        for (int k = 0; k < n; k++) {
            const channel_row in = channel_of(l, y, colour, k);
            switch (pf_penalty_of(in.a)) {
#define ADD(name, weight)                                                          \
            case name:                                                             \
                if (k == 0) add_channel(in, l->lanes, l->stride, c, 1, name);      \
                else add_channel(in, l->lanes, l->stride, c, 0, name);             \
                break;
                PF_PENALTIES(ADD)
#undef ADD
            default: break;
            }
        }
        if (l->robust) fold(edge, l->lanes, c, 1);
        else fold(edge, l->lanes, c, 0);
    }
}

/* ---- half sweep ---------------------------------------------------------------------------------------- */

/* One step of the pixels of a row and colour; su, sv: weighted sums of the neighbours. */
#define STEP(su, sv)                                                                                             \
    do {                                                                                                         \
        const float v = flow[i + stride], both = c[j + C * PF_PAD];                                              \
        const float u = (1.0f - OMEGA) * flow[i] + c[j + R1 * PF_PAD] * ((su) + c[j + B1 * PF_PAD] - both * v);   \
        flow[i] = u;                                                                                             \
        flow[i + stride] = (1.0f - OMEGA) * v + c[j + R2 * PF_PAD] * ((sv) + c[j + B2 * PF_PAD] - both * u);      \
    } while (0)

/* west, north, south: U of the neighbours, V one stride further; the east is the west's next. */
PF_APART void sweep(const float *PF_RESTRICT west, const float *PF_RESTRICT north, const float *PF_RESTRICT south,
                    const float *PF_RESTRICT c, float ratio, size_t lanes, size_t stride, float *PF_RESTRICT flow)
{
    for (size_t first = 0; first < lanes; first += PF_PAD, c += N_COEFFICIENTS * PF_PAD) {
        PF_SIMD
        for (size_t j = 0; j < PF_PAD; j++) {
            const size_t i = first + j;
            STEP(ratio * (west[i] + west[i + 1]) + (north[i] + south[i]),
                 ratio * (west[i + stride] + west[i + stride + 1]) + (north[i + stride] + south[i + stride]));
        }
    }
}

PF_APART void sweep_robust(const float *PF_RESTRICT west, const float *PF_RESTRICT north, const float *PF_RESTRICT south,
                           const float *PF_RESTRICT c, const edge_row *edge, size_t lanes, size_t stride,
                           float *PF_RESTRICT flow)
{
    const float *PF_RESTRICT kw = edge->west, *PF_RESTRICT ke = edge->east;
    const float *PF_RESTRICT kn = edge->north, *PF_RESTRICT ks = edge->south;
    for (size_t first = 0; first < lanes; first += PF_PAD, c += N_COEFFICIENTS * PF_PAD) {
        PF_SIMD
        for (size_t j = 0; j < PF_PAD; j++) {
            const size_t i = first + j;
            STEP((kw[i] * west[i] + ke[i] * west[i + 1]) + (kn[i] * north[i] + ks[i] * south[i]),
                 (kw[i] * west[i + stride] + ke[i] * west[i + stride + 1])
                     + (kn[i] * north[i + stride] + ks[i] * south[i + stride]));
        }
    }
}

static void half_sweep(const level *l, int ring, int y, int colour)
{
    const int other = 1 - colour;
    const float *west = flow_row(l, y, other) + pf_first_column(y, colour) - 1;
    const float *north = flow_row(l, y - 1, other), *south = flow_row(l, y + 1, other);
    const float *c = ring_row(l, ring, y, colour);
    float *flow = flow_row(l, y, colour);
    if (l->robust) {
        const edge_row edge = edges_of(l, ring, y, colour);
        sweep_robust(west, north, south, c, &edge, l->lanes, l->stride, flow);
    } else {
        sweep(west, north, south, c, l->ratio, l->lanes, l->stride, flow);
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
    const int planes = N_COEFFICIENTS + (l->robust ? N_EDGES : 0) + PF_TENSOR_PLANES * l->p->n_channels + 4;
    const size_t row = 2 * (size_t)planes * l->stride * sizeof(float);
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

static void run_wave(const level *l, const stage *stages, int n_stages, pf_atomic_int *before, pf_atomic_int *progress)
{
    const int h = l->p->h, last = stages[n_stages - 1].delay;
    for (int t = 0; t < h + last; t++) {
        while (before && pf_load(before) < pf_min_int(t + BEHIND, h)) pf_yield();
        for (int s = 0; s < n_stages; s++) {
            const int y = t - stages[s].delay;
            if (y < 0 || y >= h) continue;
            if (stages[s].colour < 0) refresh(l, stages[s].ring, y);
            else half_sweep(l, stages[s].ring, y, stages[s].colour);
        }
        pf_store(progress, t + 1 - last);
    }
}

/* How many waves there are; none has begun. */
static int begin_waves(const level *l, int n_threads)
{
    const int per_wave = blocks_per_wave(l, n_threads), n_waves = (count_blocks(l->p) + per_wave - 1) / per_wave;
    for (int wave = 0; wave < n_waves; wave++) pf_store(l->progress + wave, 0);
    return n_waves;
}

static void one_wave(const level *l, int wave, int n_threads)
{
    stage stages[MAX_STAGES];
    const int per_wave = blocks_per_wave(l, n_threads), first = wave * per_wave;
    const int end = pf_min_int(first + per_wave, count_blocks(l->p));
    const int n = list_stages(l, first, end, wave % n_threads * per_wave, stages);
    run_wave(l, stages, n, wave ? l->progress + wave - 1 : NULL, l->progress + wave);
}

static void iterate(const level *l, int n_threads)
{
    const int n_waves = begin_waves(l, n_threads);
#ifdef _OPENMP
#pragma omp parallel for num_threads(n_threads) if (n_threads > 1) schedule(static, 1)
#endif
    for (int wave = 0; wave < n_waves; wave++) one_wave(l, wave, n_threads);
}

/* Lay the level out in scratch (or, with scratch NULL, only count); returns the floats it takes. */
static size_t lay_out(level *l, const pf_solver_params *p, int n_threads, float *scratch)
{
    const size_t stride = pf_split_stride(p->w);
    l->p = p;
    l->stride = stride;
    l->lanes = (size_t)pf_groups(p->w) * PF_PAD;
    l->smoothness = pf_penalty_of(p->a_smooth);
    l->robust = l->smoothness != PF_QUADRATIC;
    l->depth = 1;
    while (l->depth < 2 * sweeps_per_block(p) + 2) l->depth *= 2;
    l->k_x = p->alpha_x / (p->h_col * p->h_col);
    l->k_y = p->alpha_y / (p->h_row * p->h_row);
    l->ratio = l->k_x / l->k_y;

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
    TAKE(ones, stride + PF_PAD);
    TAKE(psi, l->robust ? rings * 4 * stride + PF_PAD : 0);
    TAKE(ring, rings * l->depth * 2 * l->lanes * N_COEFFICIENTS);
    TAKE(edges, l->robust ? rings * l->depth * 2 * N_EDGES * stride + PF_PAD : 0);
#undef TAKE
    l->progress = (pf_atomic_int *)(scratch ? scratch + used : NULL);
    used += (size_t)count_blocks(p) * sizeof(pf_atomic_int) / sizeof(float);
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
    for (size_t i = 0; i < l->stride; i++) l->ones[i] = 1.0f;

    for (int o = 0; o < 2; o++)
        for (int j = 0; j < (int)l->lanes; j++) {
            const int x = 2 * j + o, edges = (x > 0) + (x < p->w - 1);
            const size_t at = (size_t)o * l->stride + PF_PAD + j;
            l->omega[at] = x < p->w ? OMEGA : 0.0f;
            l->horizontal[at] = x >= p->w ? 1.0f : l->robust ? 0.0f : l->ratio * (float)edges;
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
