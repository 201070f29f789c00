/* Penalties by name: the weight Psi'(s) that a squared residual or gradient s gets in the next linear system.
 * To add one, add a line here and say in pf_penalty_of when it is meant; the solver is specialised for each.
 */
#ifndef PF_PENALTY_H
#define PF_PENALTY_H

#include "core.h"
#include "power.h"

#define PF_EPSILON 1.0e-5f /* of the generalised Charbonnier penalty, as in the MATLAB toolbox */

/* X(name, weight as an expression in s and the exponent a) */
#define PF_PENALTIES(X)        \
    X(PF_QUADRATIC, 1.0f)      \
    X(PF_CHARBONNIER, a * pf_power(s + PF_EPSILON, a - 1.0f))

#define PF_PENALTY_NAME(name, weight) name,
typedef enum { PF_PENALTIES(PF_PENALTY_NAME) PF_N_PENALTIES } pf_penalty;
#undef PF_PENALTY_NAME

/* A constant penalty leaves nothing of the switch. */
PF_INLINE float pf_penalty_weight(const pf_penalty penalty, float s, float a)
{
    (void)s;
    (void)a;
    switch (penalty) {
#define PF_PENALTY_WEIGHT(name, weight) case name: return weight;
        PF_PENALTIES(PF_PENALTY_WEIGHT)
#undef PF_PENALTY_WEIGHT
    default: return 0.0f;
    }
}

static inline pf_penalty pf_penalty_of(float a) { return a == 1.0f ? PF_QUADRATIC : PF_CHARBONNIER; }

#endif
