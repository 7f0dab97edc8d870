// Conformance numbers of the published networks (networks 14.1, 14.3 to 14.5): parameters, inputs and noise
// filled by a hash, one training step and one prediction, compared with figures of the published
// implementation in double precision. The small networks run on the reference engine (src/cpu/ref.h) and on
// the CPU backend, the published sizes on the backend alone.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "backend/backend.h"
#include "cpu/ref.h"

enum { BATCH = 2, N_NORMS = 12 };

#define ABSENT -2.0     // this network has no such parameter
#define NONE -1.0       // the parameter takes no part in the loss

typedef struct numbers {
    const char *name;
    int full, variant, family;                  // full: 1: published sizes, 2: and a great many multiply-adds
    double loss, reconstruction, kl;
    double level[8];                            // batch mean of KLn
    double head_mean[4], head_square[4];        // training mode, before the clamp; means, then log-variances
    double norm;                                // of all gradients
    double norms[N_NORMS];                      // of those in norm_names
    double rv0;                                 // first running variance after the step (HVAE, HAE)
    double eval_mean[2], eval_square[2];        // prediction: means,
    double eval_lv_mean[2], eval_lv_square[2];  // clamped log-variances,
    double corner, centre;                      // mean[0,0,0,0], mean[1,1,img/2,img/2]
    double mse[3];                              // BraveNet: of the prediction and of the side outputs
    int of_floats;                              // figures of a float32 run
} numbers;

// %d: the top level.
static const char *const lvae_norms[N_NORMS] = {
    "first_bottom_up.0.weight",
    "lowres_first_bottom_ups.3.0.weight",
    "bottom_up_layers.0.net_downsized.0.pre_conv.weight",
    "bottom_up_layers.3.lowres_merge.layer.0.weight",
    "top_down_layers.%d.top_prior_params",
    "top_down_layers.%d.stochastic.conv_in_q.weight",
    "top_down_layers.0.stochastic.conv_in_p.weight",
    "top_down_layers.0.merge.layer.1.block.8.conv.weight",
    "top_down_layers.0.deterministic_block.0.pre_conv.weight",
    "final_top_down.0.res.block.0.weight",
    "likelihood.parameter_net.bias",
};

static const char *const unet_norms[N_NORMS] = {
    "inc.double_conv.0.weight",
    "down1.maxpool_conv.1.double_conv.0.weight",
    "lowres_first_bottom_ups.0.0.weight",
    "lowres_net.1.double_conv.0.weight",
    "lowres_merge.2.layer.0.weight",
    "lowres_merge.3.layer.0.weight",
    "ct_modules.0.ct_weights",
    "ct_modules.1.ct_weights",
    "ct_modules.1.final_layer.0.weight",
    "up1.conv.double_conv.0.weight",
    "up4.conv.double_conv.3.weight",
    "outc.conv.weight",
};

static const char *const bravenet_norms[N_NORMS] = {
    "model.input_bn.weight",
    "model.bottom_up_layers.0.0.0.weight",
    "model.lowres_bottom_up_layers.3.1.0.weight",
    "model.merge_block.0.0.weight",
    "model.lowres_output_branches.0.0.weight",
    "model.lowres_output_branches.1.0.weight",
    "model.top_down_layers.0.0.0.weight",
    "model.output_branch.0.bias",
};

static const char *const *const norm_names[] = {lvae_norms, lvae_norms, unet_norms, bravenet_norms};

static const numbers table[] = {
    {"mini vanilla HVAE", 0, USPLIT_VARIANT_VANILLA, USPLIT_FAMILY_HVAE,
     2.830564393, 2.093749967, 0.7368144264,
     {1.20004028, 0.769453266, 0.695057369, 0.282706794},
     {-0.0996581972, 0.122847456, 0.150140914, -0.0904824409},
     {0.628545096, 0.82142797, 0.415600018, 0.640764009},
     7.32858531,
     {0.626241874, ABSENT, 1.75298633, ABSENT, 0.0536410221, 0.313728771, 0.343318615, 0.197805326,
      2.1780343, 0.108646742, 0.549697184},
     0.935545298, {-0.0684651666, 0.262040982}, {0.339326109, 0.495763392}, {0.0598560767, 0.101404988},
     {0.222360485, 0.327516424}, .corner = 0.224319731, .centre = 0.335011479},
    {"mini vanilla HAE", 0, USPLIT_VARIANT_VANILLA, USPLIT_FAMILY_HAE,
     1.811151566, 1.811151566, 0,
     {0},
     {-0.100094599, 0.14189783, 0.132386267, -0.0621232489},
     {0.464015557, 0.658494805, 0.3057649, 0.449167317},
     3.67762233,
     {0.243378307, ABSENT, 0.739579225, ABSENT, NONE, 0.112476218, NONE, 0.0904287919, 0.98465958,
      0.0504869737, 0.309911866},
     0.935545298, {-0.0763834366, 0.34858381}, {0.106150336, 0.28503533}, {0.000849456748, 0.255035368},
     {0.0605180874, 0.155033945}, .corner = -0.219498525, .centre = 0.519139295},
    {"mini lean HVAE", 0, USPLIT_VARIANT_LEAN, USPLIT_FAMILY_HVAE,
     2.808224507, 1.911631175, 0.8965933317,
     {1.27678059, 0.954157501, 0.640024376, 0.715410864},
     {-0.188612535, 0.172299834, 0.103241529, -0.0261599768},
     {0.630825747, 0.778989445, 0.375817325, 0.581391283},
     4.58108527,
     {0.248819271, 0.309542911, 0.640857303, 0.384953595, 0.0730229816, 0.55042799, 0.333658081,
      0.129160578, 1.17262668, 0.0338209079, 0.400566776},
     0.935132753, {-0.146659068, 0.426950544}, {0.360074326, 0.63376603}, {-0.0537876562, 0.303599345},
     {0.225309401, 0.440538856}, .corner = 0.485158681, .centre = 0.600752108},
    {"mini lean HAE", 0, USPLIT_VARIANT_LEAN, USPLIT_FAMILY_HAE,
     1.787521727, 1.787521727, 0,
     {0},
     {-0.186218606, 0.168365534, 0.0944284885, -0.0068277355},
     {0.456443111, 0.586384472, 0.286427588, 0.398720057},
     3.70070986,
     {0.207545035, 0.099703395, 0.595928667, 0.138236997, NONE, 0.254755622, NONE, 0.0908648625,
      1.20907615, 0.0324567549, 0.309969945},
     0.935132753, {-0.141437189, 0.521611016}, {0.143923979, 0.464579358}, {-0.11011212, 0.452976247},
     {0.0924762174, 0.347764543}, .corner = -0.0495139458, .centre = 0.417371489},
    {"mini regular HVAE", 0, USPLIT_VARIANT_REGULAR, USPLIT_FAMILY_HVAE,
     3.042229398, 2.009165195, 1.033064203,
     {1.2455692, 1.04313726, 1.26619963, 0.577350719},
     {-0.181655542, 0.153983666, 0.10679413, 0.00463823759},
     {0.701719388, 0.878921407, 0.450109624, 0.65290751},
     4.48308787,
     {0.189281138, 0.182612861, 0.482087341, 0.282811096, 0.00444259877, 0.385862539, 0.271251101,
      0.129100772, 1.40688301, 0.0386621975, 0.481699742},
     0.935132753, {-0.151291967, 0.415579054}, {0.41899143, 0.726358858}, {-0.0427440004, 0.328392896},
     {0.279424765, 0.52753239}, .corner = 0.27000035, .centre = 0.109011968},
    {"mini regular HAE", 0, USPLIT_VARIANT_REGULAR, USPLIT_FAMILY_HAE,
     1.818110461, 1.818110461, 0,
     {0},
     {-0.178820273, 0.176861674, 0.100361893, -0.00828199386},
     {0.535053563, 0.640992806, 0.331055034, 0.458529154},
     3.23369326,
     {0.15485132, 0.0953482701, 0.477935033, 0.120160663, NONE, 0.222625953, NONE, 0.094028487,
      0.975170975, 0.0295132781, 0.328719781},
     0.935132753, {-0.14713899, 0.52690206}, {0.175544512, 0.511555469}, {-0.11269288, 0.46492746},
     {0.110939261, 0.389651411}, .corner = -0.0166127585, .centre = 0.310734871},
    {"mini deep HVAE", 0, USPLIT_VARIANT_DEEP, USPLIT_FAMILY_HVAE,
     25.82490166, 3.064193278, 22.76070838,
     {9.43734081, 13.0893136, 68.2339133, 41.7710029, 25.198719, 13.8871343, 8.40397702, 2.06426603},
     {-0.200178916, 0.153022578, 0.112673762, 0.0131759455},
     {1.33239743, 1.7171897, 0.807524124, 1.16790846},
     452.251301,
     {4.20809708, 55.08974, 11.0367793, 60.3030695, 0.0715252726, 62.5318914, 2.58413403, 0.47684416,
      4.79152507, 0.0751291547, 1.2981218},
     0.935132753, {-0.153287679, 0.293583828}, {1.26388428, 1.69679502}, {0.0537506572, 0.167737382},
     {0.751519058, 1.10013773}, .corner = 0.438327591, .centre = -0.108691019},
    {"mini deep HAE", 0, USPLIT_VARIANT_DEEP, USPLIT_FAMILY_HAE,
     2.632126887, 2.632126887, 0,
     {0},
     {-0.21805805, 0.171616935, 0.101252973, -0.00214701825},
     {1.08457415, 1.42011389, 0.668665927, 0.918215973},
     11.8807342,
     {0.411447069, 0.791600165, 1.36551021, 0.785730848, NONE, 0.617118296, NONE, 0.241403469, 3.33046629,
      0.0667414492, 0.938120948},
     0.935132753, {-0.174170059, 0.377851447}, {0.838190811, 1.21305057}, {-0.0227605482, 0.272660733},
     {0.485862838, 0.763548537}, .corner = 0.195928444, .centre = 0.194431768},
    {"full vanilla HVAE", 1, USPLIT_VARIANT_VANILLA, USPLIT_FAMILY_HVAE,
     2.753198805, 1.730623604, 1.022575201,
     {1.18115229, 1.13876437, 1.06079373, 0.709590409},
     {0.098063616, 0.0463660459, 0.159246621, -0.0217683019},
     {0.536528139, 0.498287801, 0.569903964, 0.520730354},
     3.12821491,
     {0.159392348, ABSENT, 1.05223653, ABSENT, 0.00990558616, 0.398964844, 0.114416001, 0.0560390707,
      0.760843998, 0.0116469138, 0.211713272},
     0.936860291, {-0.128137042, 0.297758348}, {0.315641678, 0.381186336}, {0.138002514, 0.127740502},
     {0.324314048, 0.336333567}, .corner = 0.00418146249, .centre = -0.0528232503},
    {"full lean HVAE", 1, USPLIT_VARIANT_LEAN, USPLIT_FAMILY_HVAE,
     3.026793066, 1.791931961, 1.234861106,
     {1.35019822, 1.33496653, 1.34552357, 0.908756113},
     {0.0311980181, -0.00788293869, 0.108476797, 0.00672432425},
     {0.579845722, 0.516726108, 0.55246961, 0.602340012},
     3.76243209,
     {0.0769847946, 0.106467213, 0.583475911, 0.352404845, 0.0112285071, 0.532687546, 0.132074801,
      0.0673341183, 1.05568601, 0.014139042, 0.248153265},
     0.937054109, {-0.201949562, 0.216366547}, {0.381362037, 0.370611225}, {0.102988015, 0.0721873174},
     {0.327498251, 0.397794728}, .corner = -0.248768215, .centre = 0.374224206},
    {"full regular HVAE", 1, USPLIT_VARIANT_REGULAR, USPLIT_FAMILY_HVAE,
     2.976884385, 1.809270599, 1.167613786,
     {1.21540228, 1.27030857, 1.56971499, 0.615029313},
     {0.0259607588, -0.0333115102, 0.129521347, 0.000494487701},
     {0.619578002, 0.562912003, 0.622135386, 0.664204494},
     3.22953934,
     {0.0386828945, 0.0644369689, 0.330752603, 0.182140104, 0.000572023192, 0.265974475, 0.118420342,
      0.0931557124, 1.14527682, 0.0134971762, 0.261013792},
     0.937054109, {-0.195229964, 0.206840411}, {0.407313406, 0.391859681}, {0.11083976, 0.0671846965},
     {0.376036863, 0.42983732}, .corner = -0.761187044, .centre = 0.499490406},
    {"full regular HAE", 1, USPLIT_VARIANT_REGULAR, USPLIT_FAMILY_HAE,
     1.651655024, 1.651655024, 0,
     {0},
     {0.0197433973, -0.0302700176, 0.138693517, 0.00467190732},
     {0.468759664, 0.414701245, 0.458409355, 0.515679876},
     2.53512328,
     {0.0335445103, 0.017159413, 0.295318486, 0.0577355523, NONE, 0.119019963, NONE, 0.0803478704,
      0.941494537, 0.0120695481, 0.152185535},
     0.937054109, {-0.222646154, 0.220234132}, {0.198158404, 0.184740261}, {0.105513349, 0.0756393274},
     {0.145805625, 0.20527638}, .corner = -0.295749638, .centre = 0.254679163},
    {"full deep HVAE", 1, USPLIT_VARIANT_DEEP, USPLIT_FAMILY_HVAE,
     166.7824241, 2.891049042, 163.8913751,
     {14.305225, 93.7395368, 286.206245, 323.018581, 327.901778, 183.528308, 74.7680785, 7.66324834},
     {0.0158927097, -0.0720881013, 0.16446299, -0.0150910953},
     {1.32254374, 1.21286394, 1.31735711, 1.36235496},
     4417.60356,
     {7.98641279, 240.100986, 61.2011013, 605.416085, 0.0315082626, 883.411812, 1.47767838, 0.372400391,
      5.31876291, 0.0495798553, 1.03544802},
     0.937054109, {-0.175798416, 0.129352145}, {1.50503057, 1.34141177}, {0.192235917, -0.0197651632},
     {1.44412735, 1.48494811}, .corner = -0.10532563, .centre = 0.498647152},
    {"mini unet plain", 0, USPLIT_VARIANT_VANILLA, USPLIT_FAMILY_UNET, 1.775901784,
     .head_mean = {0.425685247, -0.923231021}, .head_square = {0.744708959, 1.20959076},
     .norm = 4.40712588,
     .norms = {0.850540028, 1.13412844, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT, 0.864634916,
               0.797192166, 1.50335382},
     .eval_mean = {0.167679791, -0.0768069963}, .eval_square = {0.040523373, 0.0126808207},
     .corner = 0.196842136, .centre = -0.0439748992},
    {"mini unet lc", 0, USPLIT_VARIANT_REGULAR, USPLIT_FAMILY_UNET, 1.751761897,
     .head_mean = {0.416133292, -0.920423239}, .head_square = {0.716153418, 1.21996042},
     .norm = 4.42947959,
     .norms = {0.39058555, 0.45668399, 0.494452005, 0.778567755, 0.410236288, ABSENT, ABSENT, ABSENT, ABSENT,
               0.813645601, 0.6956411, 1.49856011},
     .eval_mean = {0.185713874, -0.0786025703}, .eval_square = {0.0466265389, 0.0133103294},
     .corner = 0.201651234, .centre = -0.108041994},
    {"mini unet ca", 0, USPLIT_VARIANT_CONTEXT_AWARE, USPLIT_FAMILY_UNET, 1.736497124,
     .head_mean = {0.429367594, -0.913064283}, .head_square = {0.709971286, 1.22126861},
     .norm = 4.46308001,
     .norms = {0.761520561, 1.00804566, ABSENT, ABSENT, ABSENT, ABSENT, 0.0109642109, 0.0086032071, 0.219226791,
               1.0034531, 1.03922774, 1.51426493},
     .eval_mean = {0.269969608, -0.0921418494}, .eval_square = {0.0801235057, 0.0133939335},
     .corner = 0.148130063, .centre = -0.129468388},
    {"mini bravenet", 0, USPLIT_VARIANT_REGULAR, USPLIT_FAMILY_BRAVENET, 1.606872654,
     .head_mean = {0.0268195485, 0.0378761873}, .head_square = {0.650991653, 0.552665348},
     .mse = {1.40301084, 1.88707699, 1.73439194}, .norm = 4.41571031,
     .norms = {0.00166471747, 0.65077527, 0.495307316, 0.248217074, 0.404700818, 0.391244555, 1.69628878,
               0.0285261371},
     .eval_mean = {0.184301239, -0.208809585}, .eval_square = {0.0403686786, 0.0492436172},
     .corner = 0.0406137598, .centre = -0.254246272},
    {"full unet plain", 1, USPLIT_VARIANT_VANILLA, USPLIT_FAMILY_UNET, 1.244151536,
     .head_mean = {-0.428853245, -0.143514022}, .head_square = {0.646278494, 0.347728635},
     .norm = 4.69312112,
     .norms = {0.426329344, 1.32391027, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT, 1.03626043,
               0.319979616, 1.27203791},
     .eval_mean = {0.0455942015, -0.0470696776}, .eval_square = {0.0113452857, 0.0112838777},
     .corner = 0.055325895, .centre = -0.070852055},
    {"full unet ca", 1, USPLIT_VARIANT_CONTEXT_AWARE, USPLIT_FAMILY_UNET, 1.263804287,
     .head_mean = {-0.431384263, -0.143385355}, .head_square = {0.629934355, 0.380115695},
     .norm = 10.2189317,
     .norms = {0.998330187, 2.94025676, ABSENT, ABSENT, ABSENT, ABSENT, 0.00486587293, 0.00491945687, 0.244470143,
               2.41543662, 0.477302949, 1.2632403},
     .eval_mean = {0.0051202418, -0.00535836681}, .eval_square = {0.00719609998, 0.00816740383},
     .corner = 0.0748226322, .centre = -0.000791654963},
    {"full bravenet", 1, USPLIT_VARIANT_REGULAR, USPLIT_FAMILY_BRAVENET, 1.692747371,
     .head_mean = {-0.0786836743, -0.12494423}, .head_square = {0.914608659, 0.855919384},
     .mse = {1.65773882, 1.73828762, 1.71722423}, .norm = 5.83219631,
     .norms = {0.00686176672, 0.427817446, 0.595767184, 0.333388116, 0.403525217, 0.370146385, 2.14502721,
               0.0676627164},
     .eval_mean = {-0.223441106, 0.196153986}, .eval_square = {0.0602352213, 0.0494737463},
     .corner = -0.266583901, .centre = 0.456552548},
    {"full unet lc", 2, USPLIT_VARIANT_REGULAR, USPLIT_FAMILY_UNET, 1.236217141, .of_floats = 1,
     .head_mean = {-0.429195583, -0.142845392}, .head_square = {0.641372204, 0.34916994},
     .norm = 7.12209484,
     .norms = {0.288694471, 0.846522629, 0.426179826, 1.23705649, 0.732244253, 0.664913595, ABSENT, ABSENT, ABSENT,
               1.48969138, 0.40827623, 1.24950171},
     .eval_mean = {-0.0074736774, -0.0730615705}, .eval_square = {0.00887701195, 0.0150276711},
     .corner = 0.0520430356, .centre = -0.121400386},
};

// ---- Deterministic fill (networks 14.1) -------------------------------------------------------------

static uint32_t hash_of(const char *name)       // 32-bit FNV-1a
{
    uint32_t h = 0x811c9dc5u;
    for (; *name; name++) {
        h = (h ^ (uint8_t)*name) * 0x01000193u;
    }
    return h;
}

static double fill_value(uint32_t h, int64_t i)
{
    uint32_t x = (uint32_t)i * 0x9e3779b9u + h;
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return 2.0 * (x >> 8) / 16777216.0 - 1;
}

static void fill_parameters(const us_graph *g, float *params)
{
    memset(params, 0, (size_t)g->n_floats * sizeof *params);
    for (int p = 0; p < g->n_params; p++) {
        const us_param *a = &g->params[p];
        uint32_t h = hash_of(a->name);
        for (int64_t i = 0; i < a->count; i++) {
            double v = fill_value(h, i), x = 0;
            switch (a->kind) {
            case US_PARAM_WEIGHT: x = v * sqrt(3.0 / (double)(a->dims[1] * a->dims[2] * a->dims[3])); break;
            case US_PARAM_PRIOR: x = 0.5 * v; break;
            case US_PARAM_SCAN: x = v; break;
            case US_PARAM_BN_WEIGHT: x = 1 + 0.1 * v; break;
            case US_PARAM_BIAS:
            case US_PARAM_BN_BIAS:
            case US_PARAM_RUNNING_MEAN: x = 0.1 * v; break;
            case US_PARAM_RUNNING_VAR: x = 1 + 0.5 * v; break;
            case US_PARAM_COUNTER: break;
            }
            params[a->offset + i] = (float)x;
        }
    }
}

// A tensor filled in N C H W order, handed over channels last.
static float *fill_tensor(const char *name, double scale, int n, int c, int h, int w)
{
    float *x = calloc((size_t)n * (size_t)c * (size_t)h * (size_t)w, sizeof *x);
    assert_non_null(x);
    int64_t i = 0;
    for (int b = 0; b < n; b++) {
        for (int k = 0; k < c; k++) {
            for (int p = 0; p < h * w; p++, i++) {
                x[((int64_t)b * h * w + p) * c + k] = (float)(scale * fill_value(hash_of(name), i));
            }
        }
    }
    return x;
}

// ---- One case: network, data, what an engine gives back ---------------------------------------------

typedef struct fixture {
    const numbers *expected;
    us_graph *graph;
    float *params, *input, *target;             // input [N][size][size][1 + lc]
    float *noise[USPLIT_MAX_LEVELS];
    usplit_context *context;                    // CPU backend only
    us_losses losses;
    double *head, *eval_head;                   // [N][size][size][values]
    int values;                                 // channels of the head
    double mse[US_MAX_LOSSES];                  // mean of every loss of the graph
    double *grads;
    unsigned char *has_grad;
    double *after;                              // running statistics after the step
} fixture;

typedef struct engine {
    const char *name;
    double tolerance, floor;
    double norm_tolerance[3];                   // HVAE and HAE; rectifiers, small and published sizes
    void (*train)(fixture *f);
    void (*predict)(fixture *f);
} engine;

static void open_fixture(fixture *f, const numbers *expected)
{
    usplit_model_options options = {.struct_size = sizeof options, .family = expected->family,
                                    .variant = expected->variant, .dropout = -1};
    if (!expected->full) {
        options.patch = 32;
        options.filters = expected->family == USPLIT_FAMILY_BRAVENET ? 4 : 8;
        options.z_dims[0] = 8;
        options.levels = expected->family == USPLIT_FAMILY_UNET ? 4 : 0;
    }
    us_net_config config;
    *f = (fixture){.expected = expected};
    assert_int_equal(us_net_config_from(&config, &options), USPLIT_OK);
    assert_int_equal(us_graph_build(&f->graph, NULL, &config, config.patch), USPLIT_OK);
    const us_graph *g = f->graph;
    f->params = calloc((size_t)g->n_floats, sizeof *f->params);
    f->grads = calloc((size_t)g->n_floats, sizeof *f->grads);
    f->after = calloc((size_t)g->n_floats, sizeof *f->after);
    f->has_grad = calloc((size_t)g->n_params, 1);
    f->values = us_net_head_channels(&config);
    size_t head = (size_t)BATCH * (size_t)(g->size * g->size * f->values);
    f->head = calloc(head, sizeof *f->head);
    f->eval_head = calloc(head, sizeof *f->eval_head);
    fill_parameters(g, f->params);
    f->input = fill_tensor("input", 1.5, BATCH, 1 + config.lc_count, g->size, g->size);
    f->target = fill_tensor("target", 1.5, BATCH, 2, g->size, g->size);
    for (int l = 0; l < g->n_latents; l++) {
        char name[16];
        snprintf(name, sizeof name, "eps%d", l);
        const us_node *z = &g->nodes[g->latent[l]];
        f->noise[l] = fill_tensor(name, sqrt(3.0), BATCH, z->c, z->h, z->w);
    }
}

static void close_fixture(fixture *f)
{
    for (int l = 0; l < USPLIT_MAX_LEVELS; l++) {
        free(f->noise[l]);
    }
    free(f->input);
    free(f->target);
    free(f->params);
    free(f->grads);
    free(f->after);
    free(f->has_grad);
    free(f->head);
    free(f->eval_head);
    us_graph_free(f->graph);
}

// ---- Reference engine -------------------------------------------------------------------------------

static us_ref *reference(fixture *f, int train, double *head)
{
    const us_graph *g = f->graph;
    int channels = 1 + g->config.lc_count;
    int64_t pixels = (int64_t)BATCH * g->size * g->size;
    us_ref *ref;
    assert_int_equal(us_ref_create(&ref, NULL, g, BATCH, train), USPLIT_OK);
    for (int64_t i = 0; i < pixels; i++) {
        for (int k = 0; k < channels; k++) {
            us_ref_input(ref, k)[i] = f->input[i * channels + k];
        }
        for (int k = 0; k < 2; k++) {
            us_ref_target(ref)[2 * i + k] = f->target[2 * i + k];
        }
    }
    for (int l = 0; l < g->n_latents; l++) {
        const us_node *z = &g->nodes[g->latent[l]];
        for (int64_t i = 0; us_ref_noise(ref, l) && i < (int64_t)BATCH * z->h * z->w * z->c; i++) {
            us_ref_noise(ref, l)[i] = f->noise[l][i];
        }
    }
    us_ref_losses losses;
    us_ref_run_forward(ref, f->params, 1, 0, &losses);
    memcpy(head, us_ref_value(ref, g->head), (size_t)(pixels * f->values) * sizeof *head);
    for (int i = 0; train && i < g->n_losses; i++) {
        for (int j = 0; j < BATCH * 2; j++) {
            f->mse[i] += us_ref_value(ref, g->losses[i])[j] / (2 * (double)pixels);
        }
    }
    if (train) {
        f->losses.loss = losses.loss;
        f->losses.reconstruction = losses.reconstruction;
        f->losses.kl = losses.kl;
        memcpy(f->losses.level, losses.level, sizeof losses.level);
    }
    return ref;
}

static void reference_train(fixture *f)
{
    us_ref *ref = reference(f, 1, f->head);
    us_ref_run_backward(ref, f->params, f->grads, f->has_grad);
    us_ref_statistics(ref, f->params, f->after);
    us_ref_free(ref);
}

static void reference_predict(fixture *f)
{
    us_ref_free(reference(f, 0, f->eval_head));
}

// The figures are printed with 9 or 10 digits, and the published log(2 pi) is off by 3.1e-8 (networks 5.1).
static const engine reference_engine = {"reference", 6e-9, 3.2e-8, {6e-9, 6e-9, 6e-9}, reference_train, reference_predict};

// ---- CPU backend ------------------------------------------------------------------------------------

static usplit_status fill_sample(void *user, int sample, float *const *levels, float *target)
{
    const fixture *f = user;
    int64_t pixels = (int64_t)f->graph->size * f->graph->size;
    int channels = 1 + f->graph->config.lc_count;
    for (int k = 0; k < channels; k++) {
        for (int64_t i = 0; levels[k] && i < pixels; i++) {
            levels[k][i] = f->input[(sample * pixels + i) * channels + k];
        }
    }
    if (target) {
        memcpy(target, f->target + sample * pixels * 2, (size_t)(pixels * 2) * sizeof *target);
    }
    return USPLIT_OK;
}

typedef struct sample_fill {    // the prediction of one sample of the fixture
    fixture *f;
    int sample;
} sample_fill;

static usplit_status fill_one(void *user, int sample, float *const *levels, float *target)
{
    const sample_fill *s = user;
    (void)sample;
    return fill_sample(s->f, s->sample, levels, target);
}

static us_exec *compile(fixture *f, const us_plan_options *options, us_plan **plan)
{
    us_exec *exec;
    usplit_context_options o;
    assert_int_equal(usplit_context_options_init(&o, sizeof o), USPLIT_OK);
    o.device = "cpu";
    o.threads = 2;
    assert_int_equal(usplit_context_create(&f->context, &o), USPLIT_OK);
    assert_int_equal(us_plan_build(plan, NULL, f->graph, options), USPLIT_OK);
    assert_int_equal(us_backend_cpu.compile(&exec, f->context, *plan, 2), USPLIT_OK);
    assert_int_equal(us_backend_cpu.prepare(exec, f->params), USPLIT_OK);
    return exec;
}

static void release(fixture *f, us_exec *exec, us_plan *plan)
{
    us_backend_cpu.release(exec);
    us_plan_free(plan);
    usplit_context_free(f->context);
}

static void backend_train(fixture *f)
{
    const us_graph *g = f->graph;
    us_plan *plan;
    us_plan_options options = {.mode = US_PLAN_TRAIN, .batch = BATCH, .kl_weight = 1, .outputs = &g->head,
                               .n_outputs = 1};
    us_exec *exec = compile(f, &options, &plan);
    us_run run = {.noise = (const float *const *)f->noise, .fill = fill_sample, .user = f};
    float *grads = calloc((size_t)g->n_floats, sizeof *grads);
    float *after = calloc((size_t)g->n_floats, sizeof *after);
    memcpy(after, f->params, (size_t)g->n_floats * sizeof *after);
    assert_int_equal(us_backend_cpu.train(exec, &run, &f->losses, grads), USPLIT_OK);
    us_backend_cpu.update_statistics(exec, after);
    int64_t values = (int64_t)g->size * g->size * f->values;
    for (int b = 0; b < BATCH; b++) {
        const float *head = us_backend_cpu.output(exec, b, g->head);
        for (int64_t i = 0; i < values; i++) {
            f->head[b * values + i] = head[i];
        }
    }
    for (int i = 0; i < g->n_losses; i++) {
        for (int j = 0; j < BATCH * 2; j++) {
            f->mse[i] += us_backend_cpu.sums(exec, j / 2)[plan->loss_sums[i] + j % 2] /
                         (2.0 * BATCH * g->size * g->size);
        }
    }
    for (int64_t i = 0; i < g->n_floats; i++) {
        f->grads[i] = grads[i];
        f->after[i] = after[i];
    }
    memcpy(f->has_grad, plan->has_grad, (size_t)g->n_params);
    free(grads);
    free(after);
    release(f, exec, plan);
}

static void backend_predict(fixture *f)
{
    const us_graph *g = f->graph;
    us_plan *plan;
    us_plan_options options = {.mode = US_PLAN_PREDICT, .batch = 1};
    us_exec *exec = compile(f, &options, &plan);
    int64_t values = (int64_t)g->size * g->size * f->values;
    for (int b = 0; b < BATCH; b++) {
        const float *noise[USPLIT_MAX_LEVELS] = {NULL}, *head;
        for (int l = 0; l < g->n_latents; l++) {
            const us_node *z = &g->nodes[g->latent[l]];
            noise[l] = f->noise[l] + (int64_t)b * z->h * z->w * z->c;
        }
        sample_fill one = {f, b};
        us_run run = {.noise = noise, .fill = fill_one, .user = &one};
        assert_int_equal(us_backend_cpu.predict(exec, b, 1, &run, &head), USPLIT_OK);
        for (int64_t i = 0; i < values; i++) {
            f->eval_head[b * values + i] = head[i];
        }
    }
    release(f, exec, plan);
}

// Tolerances that networks 14 recommends for a float32 implementation, but for the published sizes of rectifier
// networks. A rounding error that carries a value across 0 switches a whole gradient off or on. Values have a density
// of 0.4 there and an error near 3e-6 (sums of up to 4608 products of size 1), so a share of 1.2e-6 of the rectifiers
// is decided otherwise, a few of some millions (the small networks have no value so near 0). They hold the share of
// the squared gradient: sqrt(1.2e-6) of its norm a layer, sqrt(24) of that over two dozen layers, 6e-3. Which ones they
// are depends on the instruction set.
static const engine backend_engine = {"cpu", 2e-5, 1e-6, {1e-4, 5e-4, 6e-3}, backend_train, backend_predict};

// ---- Comparison -------------------------------------------------------------------------------------

static int failures;
static double worst;            // error over what is allowed

static void compare(const fixture *f, const char *what, double got, double expected, double scale,
                    double relative, double floor)
{
    double allowed = relative * fmax(fabs(expected), scale) + floor, error = fabs(got - expected);
    worst = fmax(worst, error / allowed);
    if (!(error <= allowed)) {
        print_error("%s: %s is %.10g, expected %.10g (allowed %.2g)\n", f->expected->name, what, got,
                    expected, allowed);
        failures++;
    }
}

static double norm_of(const fixture *f, int p)
{
    const us_param *a = &f->graph->params[p];
    double sum = 0;
    for (int64_t i = 0; i < a->count; i++) {
        sum += f->grads[a->offset + i] * f->grads[a->offset + i];
    }
    return sqrt(sum);
}

// Figures of a float32 run bring an error of their own, 1e-5 (networks 14).
static double tolerance(const numbers *x, const engine *e)
{
    return e->tolerance + (x->of_floats ? 1e-5 : 0);
}

static void compare_gradients(const fixture *f, const engine *e)
{
    const numbers *x = f->expected;
    const char *const *names = norm_names[x->family];
    int rectifiers = x->family > USPLIT_FAMILY_HAE;
    double all = 0, relative = e->norm_tolerance[rectifiers + (rectifiers && x->full)];
    for (int p = 0; p < f->graph->n_params; p++) {
        all += f->has_grad[p] ? pow(norm_of(f, p), 2) : 0;
    }
    compare(f, "norm of all gradients", sqrt(all), x->norm, 0, relative, e->floor);
    for (int i = 0; i < N_NORMS && names[i]; i++) {
        char name[112];
        const char *mark = strstr(names[i], "%d");
        size_t before = mark ? (size_t)(mark - names[i]) : strlen(names[i]);
        snprintf(name, sizeof name, "%.*s", (int)before, names[i]);
        if (mark) {
            snprintf(name + before, sizeof name - before, "%d%s", f->graph->config.levels - 1, mark + 2);
        }
        int p = us_graph_param(f->graph, name);
        if (x->norms[i] == ABSENT) {
            assert_int_equal(p, -1);
            continue;
        }
        assert_true(p >= 0);
        assert_int_equal(f->has_grad[p], x->norms[i] != NONE);
        if (x->norms[i] != NONE) {
            compare(f, name, norm_of(f, p), x->norms[i], 0, relative, e->floor);
        }
    }
}

// Mean and mean square of channel c over batch and space, values below `bound` raised to it.
static void moments(const fixture *f, const double *head, int c, double bound, double *mean, double *square)
{
    int64_t pixels = (int64_t)BATCH * f->graph->size * f->graph->size;
    *mean = *square = 0;
    for (int64_t i = 0; i < pixels; i++) {
        double v = fmax(head[i * f->values + c], bound);
        *mean += v / (double)pixels;
        *square += v * v / (double)pixels;
    }
}

static void compare_channel(const fixture *f, const engine *e, const char *what, const double *head, int c,
                            double bound, double expected_mean, double expected_square)
{
    char text[64];
    double mean, square;
    moments(f, head, c, bound, &mean, &square);
    snprintf(text, sizeof text, "%s of channel %d, mean", what, c);
    compare(f, text, mean, expected_mean, sqrt(expected_square), tolerance(f->expected, e), e->floor);
    snprintf(text, sizeof text, "%s of channel %d, mean square", what, c);
    compare(f, text, square, expected_square, 0, tolerance(f->expected, e), e->floor);
}

static void compare_losses(const fixture *f, const engine *e)
{
    const numbers *x = f->expected;
    double relative = tolerance(x, e);
    int lvae = x->family <= USPLIT_FAMILY_HAE;
    compare(f, "loss", f->losses.loss, x->loss, 0, relative, e->floor);
    compare(f, "reconstruction loss", f->losses.reconstruction, lvae ? x->reconstruction : x->loss, 0, relative,
            e->floor);
    compare(f, "KL loss", f->losses.kl, x->kl, 0, relative, e->floor);
    for (int l = 0; l < 8; l++) {
        char text[32];
        snprintf(text, sizeof text, "KL of level %d", l);
        compare(f, text, f->losses.level[l], x->level[l], 0, relative, e->floor);
    }
    for (int i = 0; x->family == USPLIT_FAMILY_BRAVENET && i < 3; i++) {
        char text[32];
        snprintf(text, sizeof text, "MSE of output %d", i);
        compare(f, text, f->mse[i], x->mse[i], 0, relative, e->floor);
    }
}

static void compare_all(const fixture *f, const engine *e)
{
    const numbers *x = f->expected;
    int rv = us_graph_param(f->graph, "first_bottom_up.2.res.block.0.running_var");
    compare_losses(f, e);
    for (int c = 0; c < f->values; c++) {
        compare_channel(f, e, "head", f->head, c, -HUGE_VAL, x->head_mean[c], x->head_square[c]);
    }
    compare_gradients(f, e);
    if (rv >= 0) {
        compare(f, "rv0", f->after[f->graph->params[rv].offset], x->rv0, 0, tolerance(x, e), e->floor);
    }
    for (int c = 0; c < 2; c++) {
        compare_channel(f, e, "prediction", f->eval_head, c, -HUGE_VAL, x->eval_mean[c], x->eval_square[c]);
    }
    for (int c = 0; c < f->values - 2; c++) {
        compare_channel(f, e, "prediction", f->eval_head, 2 + c, -5, x->eval_lv_mean[c], x->eval_lv_square[c]);
    }
    int64_t size = f->graph->size, middle = (size * size + size / 2 * size + size / 2) * f->values + 1;
    compare(f, "corner", f->eval_head[0], x->corner, sqrt(x->eval_square[0]), tolerance(x, e), e->floor);
    compare(f, "centre", f->eval_head[middle], x->centre, sqrt(x->eval_square[1]), tolerance(x, e), e->floor);
}

static void run_case(const numbers *expected, const engine *e)
{
    fixture f;
    open_fixture(&f, expected);
    worst = 0;
    e->train(&f);
    e->predict(&f);
    compare_all(&f, e);
    if (getenv("USPLIT_TEST_VERBOSE")) {
        print_message("%s on %s: worst error %.2g of what is allowed\n", expected->name, e->name, worst);
    }
    close_fixture(&f);
}

static void run_cases(int full, const engine *e)
{
    failures = 0;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (table[i].full == full) {
            run_case(&table[i], e);
        }
    }
    assert_int_equal(failures, 0);
}

// ---- Tests ------------------------------------------------------------------------------------------

static void fill_is_the_specified_one(void **state)
{
    (void)state;
    assert_int_equal(hash_of("input"), 0xf9d86f7b);
    assert_int_equal(hash_of("eps0"), 0xaf479a6b);
    assert_int_equal(hash_of("first_bottom_up.0.weight"), 0xe78d0e89);
    const double v[] = {0.28604722, 0.840689182, -0.616033196};
    for (int i = 0; i < 3; i++) {
        assert_true(fabs(fill_value(hash_of("input"), i) - v[i]) < 1e-9);
    }
}

static void small_networks_on_the_reference(void **state)
{
    (void)state;
    run_cases(0, &reference_engine);
}

static void small_networks_on_the_backend(void **state)
{
    (void)state;
    run_cases(0, &backend_engine);
}

static void published_networks_on_the_backend(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    print_message("skipped: too slow under ThreadSanitizer; the small networks ran\n");
    skip();
#endif
    run_cases(1, &backend_engine);
}

// 99 thousand million multiply-adds a patch: the backend alone, and no sanitizer.
static void published_unet_with_context_on_the_backend(void **state)
{
    (void)state;
#if defined __SANITIZE_THREAD__ || defined __SANITIZE_ADDRESS__
    print_message("skipped: too slow under a sanitizer; the small network ran\n");
    skip();
#endif
    run_cases(2, &backend_engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fill_is_the_specified_one),
        cmocka_unit_test(small_networks_on_the_reference),
        cmocka_unit_test(small_networks_on_the_backend),
        cmocka_unit_test(published_networks_on_the_backend),
        cmocka_unit_test(published_unet_with_context_on_the_backend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
