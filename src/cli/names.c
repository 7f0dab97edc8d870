// The lists, each in the order of its enum, as options take the place of a word for its value.
#include "cli/names.h"

#include <usplit.h>

#define FAMILIES(X)                              \
    X(USPLIT_FAMILY_HVAE, "hvae", "HVAE")        \
    X(USPLIT_FAMILY_HAE, "hae", "HAE")           \
    X(USPLIT_FAMILY_UNET, "unet", "U-Net")       \
    X(USPLIT_FAMILY_BRAVENET, "bravenet", "BraveNet")
#define VARIANTS(X)                                       \
    X(USPLIT_VARIANT_VANILLA, "vanilla", "Vanilla")       \
    X(USPLIT_VARIANT_LEAN, "lean", "Lean-LC")             \
    X(USPLIT_VARIANT_REGULAR, "regular", "Regular-LC")    \
    X(USPLIT_VARIANT_DEEP, "deep", "Deep-LC")             \
    X(USPLIT_VARIANT_CONTEXT_AWARE, "context-aware", "Context-Aware")
#define ACTIVATIONS(X)                       \
    X(USPLIT_ACTIVATION_ELU, "elu", "ELU")   \
    X(USPLIT_ACTIVATION_RELU, "relu", "ReLU") \
    X(USPLIT_ACTIVATION_LEAKY_RELU, "leaky-relu", "leaky ReLU")
#define LOGVARS(X)                                              \
    X(USPLIT_LOGVAR_PIXELWISE, "pixelwise", "of every pixel")   \
    X(USPLIT_LOGVAR_NONE, "none", "none")                       \
    X(USPLIT_LOGVAR_CHANNELWISE, "channelwise", "of every channel") \
    X(USPLIT_LOGVAR_GLOBAL, "global", "of the patch")
#define MERGES(X)                                                        \
    X(USPLIT_MERGE_RESIDUAL, "residual", "gated residual block")         \
    X(USPLIT_MERGE_RESIDUAL_UNGATED, "ungated", "ungated residual block") \
    X(USPLIT_MERGE_LINEAR, "linear", "1 x 1 convolution")
#define KLS(X)                                             \
    X(USPLIT_KL_MONTE_CARLO, "monte-carlo", "Monte Carlo") \
    X(USPLIT_KL_ANALYTICAL, "analytical", "analytical")
#define LATENT_SCALES(X)                                              \
    X(USPLIT_LATENT_SCALE_REFERENCE, "reference", "as the published code") \
    X(USPLIT_LATENT_SCALE_PAPER, "paper", "as the paper's text")      \
    X(USPLIT_LATENT_SCALE_NONE, "none", "none")

#define INPUTS(X)                                             \
    X(USPLIT_INPUT_MEAN, "mean", "the mean of the channels")  \
    X(USPLIT_INPUT_SUM, "sum", "the sum of the channels")     \
    X(USPLIT_INPUT_MEASURED, "measured", "measured images")
#define CENTRINGS(X)                                                     \
    X(USPLIT_CENTRING_FLOORED, "floored", "context on whole pixels")     \
    X(USPLIT_CENTRING_EXACT, "exact", "exactly centred context")

#define WORD(value, word, title) [value] = word,
#define TITLE(value, word, title) [value] = title,
#define CHOICE(value, word, title) "|" word
#define TABLE(name, list)                                                                              \
    static const char *const name##_words[] = {list(WORD)};                                            \
    static const char *const name##_titles[] = {list(TITLE)};                                          \
    const name_table names_##name = {sizeof name##_words / sizeof name##_words[0], name##_words, name##_titles, \
                                     &list(CHOICE)[1]}

TABLE(family, FAMILIES);
TABLE(variant, VARIANTS);
TABLE(activation, ACTIVATIONS);
TABLE(logvar, LOGVARS);
TABLE(merge, MERGES);
TABLE(kl, KLS);
TABLE(latent_scale, LATENT_SCALES);
TABLE(input, INPUTS);
TABLE(centring, CENTRINGS);

const char *names_word(const name_table *table, int32_t value)
{
    return value >= 0 && value < table->n ? table->words[value] : "unknown";
}

const char *names_title(const name_table *table, int32_t value)
{
    return value >= 0 && value < table->n ? table->titles[value] : "unknown";
}
