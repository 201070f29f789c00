/* The waves of the solver on POSIX threads, for the thread sanitizer: it does not see the barriers of GNU's OpenMP and
 * would report every parallel loop. Here it sees the threads begin and end, and the solver's own atomics between.
 *
 * The result is compared with that of one thread, bit for bit. See tests/sanitize.sh.
 */
#include "solver.c"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { H = 70, W = 83, CHANNELS = 2, THREADS = 3 };

typedef struct {
    const level *l;
    int id, n_waves;
} job;

static void *run(void *argument)
{
    const job *j = argument;
    for (int wave = j->id; wave < j->n_waves; wave += THREADS) one_wave(j->l, wave, THREADS);
    return NULL;
}

static float noise(void) { return (float)rand() / (float)RAND_MAX - 0.5f; }

static float *floats(size_t n, float size)
{
    float *made = malloc(n * sizeof(float));
    for (size_t i = 0; i < n; i++) made[i] = size * noise();
    return made;
}

/* A tensor of rank one in every pixel. */
static float *random_tensor(size_t n_groups)
{
    float *made = malloc(n_groups * PF_TENSOR_PLANES * PF_PAD * sizeof(float));
    for (size_t g = 0; g < n_groups; g++)
        for (size_t i = 0; i < PF_PAD; i++) {
            const float x = noise(), y = noise(), t = noise();
            float *j = made + g * PF_TENSOR_PLANES * PF_PAD + i;
            j[PF_J11 * PF_PAD] = x * x;
            j[PF_J22 * PF_PAD] = y * y;
            j[PF_J33 * PF_PAD] = t * t;
            j[PF_J12 * PF_PAD] = x * y;
            j[PF_J13 * PF_PAD] = x * t;
            j[PF_J23 * PF_PAD] = y * t;
        }
    return made;
}

static int compare(float a_smooth)
{
    const float a_data[CHANNELS] = {0.45f, 1.0f}, weight[CHANNELS] = {0.5f, 0.5f};
    const pf_solver_params p = {.h = H, .w = W, .n_channels = CHANNELS, .h_row = 1.0f, .h_col = 1.0f, .alpha_x = 1.5f,
                                .alpha_y = 2.0f, .a_smooth = a_smooth, .a_data = a_data, .weight = weight,
                                .iterations = 61, .update_lag = 5};
    float *u = floats(H * W, 1.0f), *v = floats(H * W, 1.0f), *du = floats(H * W, 0.0f), *dv = floats(H * W, 0.0f);
    float *tensor = random_tensor((size_t)CHANNELS * H * 2 * (size_t)pf_groups(W));
    float *alone = calloc(scratch_size(&p, 1), sizeof(float)), *together = calloc(scratch_size(&p, THREADS), sizeof(float));
    if (solve(&p, tensor, u, v, du, dv, alone, 1) != PF_OK) return 1;

    level l;
    lay_out(&l, &p, THREADS, together + (-((uintptr_t)together / sizeof(float)) & (PF_PAD - 1)));
    l.tensor = tensor;
    fill(&l, u, v);
    const int n_waves = begin_waves(&l, THREADS);
    pthread_t threads[THREADS];
    job jobs[THREADS];
    for (int id = 0; id < THREADS; id++) {
        jobs[id] = (job){&l, id, n_waves};
        pthread_create(threads + id, NULL, run, jobs + id);
    }
    for (int id = 0; id < THREADS; id++) pthread_join(threads[id], NULL);

    int different = n_waves < THREADS;
    float *found = malloc(W * sizeof(float));
    for (int y = 0; y < H; y++) {
        pf_merge_row(flow_row(&l, 0, 0) - PF_PAD, 2, l.stride, y, 0, W, found);
        for (int x = 0; x < W; x++) different += found[x] - u[y * W + x] != du[y * W + x];
    }
    printf("a_smooth %.1f: %d waves, %d values differ\n", a_smooth, n_waves, different);
    free(found), free(u), free(v), free(du), free(dv), free(tensor), free(alone), free(together);
    return different;
}

int main(void) { return compare(1.0f) + compare(0.5f) != 0; }
