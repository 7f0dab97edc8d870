"""The ABI of libusplit for ctypes. Written by tools/ffi_gen.py from include/usplit.h: do not edit."""
from ctypes import (CFUNCTYPE, POINTER, Structure, c_char, c_char_p, c_double, c_float, c_int32,
    c_int64, c_size_t, c_uint64, c_void_p)

VERSION = (0, 1, 0)

USPLIT_OK = 0
USPLIT_ERR_ARGUMENT = 10
USPLIT_ERR_SHAPE = 11
USPLIT_ERR_UNSUPPORTED = 12
USPLIT_ERR_MEMORY = 20
USPLIT_ERR_BUDGET = 21
USPLIT_ERR_FILE = 30
USPLIT_ERR_FORMAT = 31
USPLIT_ERR_CALLBACK = 32
USPLIT_ERR_BACKEND = 40
USPLIT_ERR_DEVICE = 41
USPLIT_ERR_CANCELLED = 50
USPLIT_ERR_BUSY = 51
USPLIT_ERR_STATE = 52
USPLIT_ERR_NUMERIC = 60
USPLIT_ERR_INTERNAL = 90
USPLIT_PHASE_TRAIN = 1
USPLIT_PHASE_VALIDATE = 2
USPLIT_PHASE_EPOCH = 3
USPLIT_PHASE_TILE = 4
USPLIT_PHASE_DIP = 5
USPLIT_LOG_INFO = 1
USPLIT_LOG_WARNING = 2
USPLIT_PRECISION_BEST = 0
USPLIT_PRECISION_FLOAT32 = 1
USPLIT_PRECISION_FLOAT16 = 2
USPLIT_TYPE_U8 = 1
USPLIT_TYPE_U16 = 2
USPLIT_TYPE_F32 = 3
USPLIT_PADDING_REFLECT = 0
USPLIT_PADDING_CONSTANT = 1
USPLIT_SPLIT_INTERLEAVED = 0
USPLIT_SPLIT_SEQUENTIAL = 1
USPLIT_SET_ALL = 0
USPLIT_SET_TRAIN = 1
USPLIT_SET_VALIDATION = 2
USPLIT_SET_TEST = 3
USPLIT_MAX_CHANNELS = 8
USPLIT_NAME_BYTES = 64
USPLIT_FAMILY_HVAE = 0
USPLIT_FAMILY_HAE = 1
USPLIT_FAMILY_UNET = 2
USPLIT_FAMILY_BRAVENET = 3
USPLIT_VARIANT_VANILLA = 0
USPLIT_VARIANT_LEAN = 1
USPLIT_VARIANT_REGULAR = 2
USPLIT_VARIANT_DEEP = 3
USPLIT_VARIANT_CONTEXT_AWARE = 4
USPLIT_ACTIVATION_ELU = 0
USPLIT_ACTIVATION_RELU = 1
USPLIT_ACTIVATION_LEAKY_RELU = 2
USPLIT_LOGVAR_PIXELWISE = 0
USPLIT_LOGVAR_NONE = 1
USPLIT_LOGVAR_CHANNELWISE = 2
USPLIT_LOGVAR_GLOBAL = 3
USPLIT_MERGE_RESIDUAL = 0
USPLIT_MERGE_RESIDUAL_UNGATED = 1
USPLIT_MERGE_LINEAR = 2
USPLIT_KL_MONTE_CARLO = 0
USPLIT_KL_ANALYTICAL = 1
USPLIT_LATENT_SCALE_REFERENCE = 0
USPLIT_LATENT_SCALE_PAPER = 1
USPLIT_LATENT_SCALE_NONE = 2
USPLIT_MAX_LEVELS = 12
USPLIT_MODE_TRAIN = 1
USPLIT_MODE_PREDICT = 2
USPLIT_TILING_INNER = 0
USPLIT_TILING_OUTER = 1
USPLIT_COVER_ALL = 0
USPLIT_COVER_WHOLE_TILES = 1
USPLIT_LATENT_SAMPLE = 0
USPLIT_LATENT_MEAN = 1
USPLIT_DIP_SINGLE = 1
USPLIT_DIP_TWO = 2

# What the constants are for (an option, a fact, an argument), and their names in Python.
ENUMS = {
    'phase': {'train': 1, 'validate': 2, 'epoch': 3, 'tile': 4, 'dip': 5},
    'precision': {'best': 0, 'float32': 1, 'float16': 2},
    'type': {'u8': 1, 'u16': 2, 'f32': 3},
    'padding': {'reflect': 0, 'constant': 1},
    'split': {'interleaved': 0, 'sequential': 1},
    'set': {'all': 0, 'train': 1, 'validation': 2, 'test': 3},
    'family': {'hvae': 0, 'hae': 1, 'unet': 2, 'bravenet': 3},
    'variant': {'vanilla': 0, 'lean': 1, 'regular': 2, 'deep': 3, 'context_aware': 4},
    'activation': {'elu': 0, 'relu': 1, 'leaky_relu': 2},
    'logvar': {'pixelwise': 0, 'none': 1, 'channelwise': 2, 'global': 3},
    'merge': {'residual': 0, 'residual_ungated': 1, 'linear': 2},
    'kl': {'monte_carlo': 0, 'analytical': 1},
    'latent_scale': {'reference': 0, 'paper': 1, 'none': 2},
    'mode': {'train': 1, 'predict': 2},
    'tiling': {'inner': 0, 'outer': 1},
    'cover': {'all': 0, 'whole_tiles': 1},
    'latent': {'sample': 0, 'mean': 1},
}


class usplit_status(c_int32):
    pass


class usplit_context(Structure):
    pass


class usplit_dataset(Structure):
    pass


class usplit_model(Structure):
    pass


class usplit_trainer(Structure):
    pass


class usplit_tiler(Structure):
    pass


class usplit_progress(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("phase", c_int32),
        ("epoch", c_int32),
        ("done", c_int64),
        ("total", c_int64),
        ("seconds_elapsed", c_double),
        ("seconds_left", c_double),
        ("loss", c_double),
        ("val_psnr", c_double),
        ("best_val_psnr", c_double),
        ("learning_rate", c_double),
        ("patches_per_second", c_double),
    ]


usplit_alloc_fn = CFUNCTYPE(c_void_p, c_size_t, c_void_p)


usplit_release_fn = CFUNCTYPE(None, c_void_p, c_void_p)


usplit_log_fn = CFUNCTYPE(None, c_int32, c_char_p, c_void_p)


class usplit_context_options(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("device", c_char_p),
        ("threads", c_int32),
        ("precision", c_int32),
        ("alloc", usplit_alloc_fn),
        ("release", usplit_release_fn),
        ("alloc_user", c_void_p),
        ("log", usplit_log_fn),
        ("log_user", c_void_p),
        ("deterministic", c_int32),
        ("tune", c_int32),
        ("cache_folder", c_char_p),
    ]


class usplit_context_facts(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("threads", c_int32),
        ("reserved0", c_int32),
        ("device", c_char * 64),
        ("reason", c_char * 192),
        ("engine", c_char * 128),
    ]


class usplit_device_facts(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("usable", c_int32),
        ("reserved0", c_int32),
        ("total_bytes", c_int64),
        ("free_bytes", c_int64),
        ("name", c_char * 64),
        ("text", c_char * 192),
        ("reason", c_char * 512),
    ]


class usplit_image(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("data", c_void_p),
        ("type", c_int32),
        ("reserved0", c_int32),
        ("frames", c_int64),
        ("height", c_int64),
        ("width", c_int64),
        ("channels", c_int64),
        ("stride_frame", c_int64),
        ("stride_row", c_int64),
        ("stride_column", c_int64),
        ("stride_channel", c_int64),
    ]


class usplit_image_quality(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("ri_psnr", c_double),
        ("psnr", c_double),
        ("ssim", c_double),
        ("rmse", c_double),
    ]


class usplit_image_pair_quality(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("swapped", c_int32),
        ("reserved0", c_int32),
        ("ri_psnr", c_double * 2),
        ("psnr", c_double * 2),
        ("ssim", c_double * 2),
        ("rmse", c_double * 2),
    ]


class usplit_image_seam_facts(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("ratio", c_double),
        ("ratio_error", c_double),
        ("row_ratio", c_double),
        ("row_error", c_double),
        ("column_ratio", c_double),
        ("column_error", c_double),
        ("row_borders", c_int64),
        ("column_borders", c_int64),
    ]


class usplit_dataset_options(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("split", c_int32),
        ("padding", c_int32),
        ("padding_value", c_double),
        ("validation_fraction", c_double),
        ("test_fraction", c_double),
        ("clip_quantile", c_double),
        ("levels", c_int32),
        ("reserved0", c_int32),
        ("train_frames", POINTER(c_int64)),
        ("validation_frames", POINTER(c_int64)),
        ("test_frames", POINTER(c_int64)),
        ("n_train_frames", c_int64),
        ("n_validation_frames", c_int64),
        ("n_test_frames", c_int64),
    ]


usplit_dataset_reader_frame_size = CFUNCTYPE(c_int32, c_int64, POINTER(c_int64), POINTER(c_int64), c_void_p)


usplit_dataset_reader_read = CFUNCTYPE(c_int32, c_int64, c_int64, POINTER(c_float), c_void_p)


class usplit_dataset_reader(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("n_frames", c_int64),
        ("n_channels", c_int64),
        ("frame_size", usplit_dataset_reader_frame_size),
        ("read", usplit_dataset_reader_read),
        ("user", c_void_p),
    ]


class usplit_dataset_facts(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("n_frames", c_int64),
        ("n_train", c_int64),
        ("n_validation", c_int64),
        ("n_test", c_int64),
        ("height", c_int64),
        ("width", c_int64),
        ("n_channels", c_int64),
        ("bytes", c_int64),
        ("clip_value", c_double),
        ("input_mean", c_double),
        ("input_deviation", c_double),
        ("target_mean", c_double * 8),
        ("target_deviation", c_double * 8),
        ("padding", c_int32),
        ("levels", c_int32),
        ("padding_value", c_double),
    ]


class usplit_critter_options(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("n_frames", c_int64),
        ("size", c_int64),
        ("n_curves", c_int32),
        ("thickness", c_int32),
        ("joiner", c_int32),
        ("kinds", c_int32),
        ("joiner_fraction", c_double),
        ("amplitude", c_double),
        ("max_vertical_shift", c_double),
        ("max_horizontal_shift", c_double),
        ("seed", c_uint64),
    ]


class usplit_model_options(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("family", c_int32),
        ("variant", c_int32),
        ("levels", c_int32),
        ("lc_count", c_int32),
        ("filters", c_int32),
        ("patch", c_int32),
        ("channels", c_int32),
        ("reserved0", c_int32),
        ("z_dims", c_int32 * 12),
        ("dropout", c_double),
        ("logvar_lower_bound", c_double),
        ("var_clip_max", c_double),
        ("seed", c_uint64),
        ("blocks", c_int32),
        ("activation", c_int32),
        ("logvar", c_int32),
        ("merge", c_int32),
        ("kl", c_int32),
        ("latent_scale", c_int32),
        ("shared_branch", c_int32),
        ("ungated", c_int32),
    ]


class usplit_model_facts(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("family", c_int32),
        ("variant", c_int32),
        ("levels", c_int32),
        ("lc_count", c_int32),
        ("filters", c_int32),
        ("patch", c_int32),
        ("channels", c_int32),
        ("has_normalisation", c_int32),
        ("z_dims", c_int32 * 12),
        ("dropout", c_double),
        ("logvar_lower_bound", c_double),
        ("var_clip_max", c_double),
        ("n_parameters", c_int64),
        ("n_entries", c_int64),
        ("macs", c_int64),
        ("clip_value", c_double),
        ("input_mean", c_double),
        ("input_deviation", c_double),
        ("target_mean", c_double * 8),
        ("target_deviation", c_double * 8),
        ("padding", c_int32),
        ("reserved0", c_int32),
        ("padding_value", c_double),
        ("epochs_trained", c_int64),
        ("steps_trained", c_int64),
        ("best_val_psnr", c_double),
        ("pixel_size", c_double),
        ("channel_names", c_char * 64 * 8),
        ("blocks", c_int32),
        ("activation", c_int32),
        ("logvar", c_int32),
        ("merge", c_int32),
        ("kl", c_int32),
        ("latent_scale", c_int32),
        ("shared_branch", c_int32),
        ("ungated", c_int32),
    ]


class usplit_model_normalisation(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("clip_value", c_double),
        ("input_mean", c_double),
        ("input_deviation", c_double),
        ("target_mean", c_double * 8),
        ("target_deviation", c_double * 8),
        ("padding", c_int32),
        ("reserved0", c_int32),
        ("padding_value", c_double),
        ("pixel_size", c_double),
        ("channel_names", c_char * 64 * 8),
    ]


class usplit_model_cost(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("macs", c_int64),
        ("kept_bytes", c_int64),
        ("arena_bytes", c_int64),
        ("parameter_bytes", c_int64),
        ("n_steps", c_int64),
    ]


class usplit_trainer_options(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("batch", c_int32),
        ("max_epochs", c_int32),
        ("max_steps", c_int64),
        ("steps_per_epoch", c_int64),
        ("max_seconds", c_double),
        ("learning_rate", c_double),
        ("clip_norm", c_double),
        ("kl_weight", c_double),
        ("free_bits", c_double),
        ("lr_factor", c_double),
        ("lr_patience", c_int32),
        ("early_stop_patience", c_int32),
        ("seed", c_uint64),
        ("max_validation_patches", c_int64),
        ("memory_budget", c_int64),
        ("best_file", c_char_p),
        ("last_file", c_char_p),
    ]


class usplit_trainer_facts(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("step", c_int64),
        ("skipped_steps", c_int64),
        ("epoch", c_int32),
        ("stopped_early", c_int32),
        ("loss", c_double),
        ("reconstruction_loss", c_double),
        ("kl_loss", c_double),
        ("gradient_norm", c_double),
        ("learning_rate", c_double),
        ("val_psnr", c_double),
        ("best_val_psnr", c_double),
        ("best_epoch", c_int32),
        ("part_batch", c_int32),
        ("arena_bytes", c_int64),
        ("steps_per_epoch", c_int64),
        ("seconds", c_double),
    ]


class usplit_trainer_epoch(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("step", c_int64),
        ("loss", c_double),
        ("reconstruction_loss", c_double),
        ("kl_loss", c_double),
        ("val_psnr", c_double),
        ("val_loss", c_double),
        ("learning_rate", c_double),
        ("seconds", c_double),
        ("kl_level", c_double * 12),
    ]


class usplit_tiler_options(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("tiling", c_int32),
        ("cover", c_int32),
        ("pad", c_int32),
        ("samples", c_int32),
        ("latent", c_int32),
        ("batch", c_int32),
        ("seed", c_uint64),
        ("memory_budget", c_int64),
        ("patch", c_int32),
        ("shifts", c_int32),
        ("deviations", c_int32),
        ("reserved0", c_int32),
    ]


class usplit_tiler_cost(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("tiles", c_int64),
        ("passes", c_int64),
        ("tile_rows", c_int64),
        ("tile_columns", c_int64),
        ("patch", c_int32),
        ("inner", c_int32),
        ("batch", c_int32),
        ("workers", c_int32),
        ("host_bytes", c_int64),
        ("device_bytes", c_int64),
        ("macs", c_int64),
        ("covered_height", c_int64),
        ("covered_width", c_int64),
        ("seconds", c_double),
    ]


class usplit_tiler_result(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("tiles", c_int64),
        ("passes", c_int64),
        ("peak_bytes", c_int64),
        ("seconds", c_double),
        ("gain", c_double * 8),
        ("offset", c_double * 8),
        ("clip_value", c_double),
        ("clipped_pixels", c_int64),
        ("saturated_pixels", c_int64),
        ("samples", c_int32),
        ("latent", c_int32),
        ("device", c_char * 64),
    ]


usplit_tiler_stream_read = CFUNCTYPE(c_int32, c_int64, c_int64, POINTER(c_float), c_void_p)


usplit_tiler_stream_write = CFUNCTYPE(c_int32, c_int64, c_int64, POINTER(c_float), c_void_p)


class usplit_tiler_stream(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("height", c_int64),
        ("width", c_int64),
        ("read", usplit_tiler_stream_read),
        ("write", usplit_tiler_stream_write),
        ("user", c_void_p),
    ]


class usplit_dip_options(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("mode", c_int32),
        ("reserved0", c_int32),
        ("iterations", c_int64),
        ("learning_rate", c_double),
        ("exclusion_weight", c_double),
        ("mix", c_double * 2),
        ("seed", c_uint64),
        ("max_seconds", c_double),
    ]


class usplit_dip_result(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("mode", c_int32),
        ("reserved0", c_int32),
        ("iterations", c_int64),
        ("best_iteration", c_int64),
        ("psnr", c_double),
        ("loss", c_double),
        ("reconstruction_loss", c_double),
        ("exclusion_loss", c_double),
        ("share", c_double * 2),
        ("low", c_double),
        ("high", c_double),
        ("macs", c_int64),
        ("bytes", c_int64),
        ("seconds", c_double),
    ]


usplit_progress_fn = CFUNCTYPE(c_int32, POINTER(usplit_progress), c_void_p)


usplit_model_plan_text_line = CFUNCTYPE(None, c_char_p, c_void_p)


# name: (result, parameters)
FUNCTIONS = {
    "usplit_version": (c_int32, ()),
    "usplit_error_message": (c_char_p, ()),
    "usplit_status_name": (c_char_p, (usplit_status,)),
    "usplit_context_options_init": (usplit_status, (POINTER(usplit_context_options), c_size_t)),
    "usplit_context_create": (usplit_status, (POINTER(POINTER(usplit_context)), POINTER(usplit_context_options))),
    "usplit_context_free": (None, (POINTER(usplit_context),)),
    "usplit_context_info": (usplit_status, (POINTER(usplit_context), POINTER(usplit_context_facts))),
    "usplit_device_count": (usplit_status, (POINTER(c_int32),)),
    "usplit_device_info": (usplit_status, (c_int32, POINTER(usplit_device_facts))),
    "usplit_image_init": (usplit_status, (POINTER(usplit_image), c_size_t, c_void_p, c_int32, c_int64, c_int64, c_int64, c_int64)),
    "usplit_image_compare": (usplit_status, (POINTER(usplit_image), POINTER(usplit_image), POINTER(usplit_image_quality))),
    "usplit_image_compare_pair": (usplit_status, (POINTER(usplit_image), POINTER(usplit_image), POINTER(usplit_image_pair_quality))),
    "usplit_image_seams": (usplit_status, (POINTER(usplit_image), c_int64, c_int64, c_int64, POINTER(usplit_image_seam_facts))),
    "usplit_dataset_options_init": (usplit_status, (POINTER(usplit_dataset_options), c_size_t)),
    "usplit_critter_options_init": (usplit_status, (POINTER(usplit_critter_options), c_size_t)),
    "usplit_dataset_create": (usplit_status, (POINTER(POINTER(usplit_dataset)), POINTER(usplit_context), POINTER(usplit_image), c_size_t, POINTER(usplit_dataset_options))),
    "usplit_dataset_create_reader": (usplit_status, (POINTER(POINTER(usplit_dataset)), POINTER(usplit_context), POINTER(usplit_dataset_reader), POINTER(usplit_dataset_options))),
    "usplit_dataset_create_critters": (usplit_status, (POINTER(POINTER(usplit_dataset)), POINTER(usplit_context), POINTER(usplit_critter_options), POINTER(usplit_dataset_options))),
    "usplit_dataset_open": (usplit_status, (POINTER(POINTER(usplit_dataset)), POINTER(usplit_context), c_char_p, c_char_p, POINTER(usplit_dataset_options))),
    "usplit_dataset_free": (None, (POINTER(usplit_dataset),)),
    "usplit_dataset_info": (usplit_status, (POINTER(usplit_dataset), POINTER(usplit_dataset_facts))),
    "usplit_dataset_get_set": (usplit_status, (POINTER(usplit_dataset), c_int32, POINTER(c_int64), POINTER(c_int64))),
    "usplit_dataset_get_frame": (usplit_status, (POINTER(usplit_dataset), c_int64, c_int64, c_int32, POINTER(c_float), POINTER(c_int64), POINTER(c_int64))),
    "usplit_model_options_init": (usplit_status, (POINTER(usplit_model_options), c_size_t)),
    "usplit_model_create": (usplit_status, (POINTER(POINTER(usplit_model)), POINTER(usplit_context), POINTER(usplit_model_options))),
    "usplit_model_load": (usplit_status, (POINTER(POINTER(usplit_model)), POINTER(usplit_context), c_char_p)),
    "usplit_model_save": (usplit_status, (POINTER(usplit_model), c_char_p)),
    "usplit_model_free": (None, (POINTER(usplit_model),)),
    "usplit_model_info": (usplit_status, (POINTER(usplit_model), POINTER(usplit_model_facts))),
    "usplit_model_set_normalisation": (usplit_status, (POINTER(usplit_model), POINTER(usplit_model_normalisation))),
    "usplit_model_get_entry": (usplit_status, (POINTER(usplit_model), c_int64, POINTER(c_char_p), POINTER(c_int64), POINTER(c_int32))),
    "usplit_model_get_parameter": (usplit_status, (POINTER(usplit_model), c_char_p, POINTER(c_float), c_int64)),
    "usplit_model_set_parameter": (usplit_status, (POINTER(usplit_model), c_char_p, POINTER(c_float), c_int64)),
    "usplit_model_plan": (usplit_status, (POINTER(usplit_model), c_int32, c_int32, c_int32, POINTER(usplit_model_cost))),
    "usplit_model_plan_text": (usplit_status, (POINTER(usplit_model), c_int32, c_int32, c_int32, usplit_model_plan_text_line, c_void_p)),
    "usplit_model_check": (usplit_status, (POINTER(usplit_model), POINTER(c_double))),
    "usplit_trainer_options_init": (usplit_status, (POINTER(usplit_trainer_options), c_size_t)),
    "usplit_trainer_create": (usplit_status, (POINTER(POINTER(usplit_trainer)), POINTER(usplit_model), POINTER(usplit_dataset), POINTER(usplit_trainer_options))),
    "usplit_trainer_resume": (usplit_status, (POINTER(usplit_trainer), c_char_p)),
    "usplit_trainer_run": (usplit_status, (POINTER(usplit_trainer), usplit_progress_fn, c_void_p)),
    "usplit_trainer_step": (usplit_status, (POINTER(usplit_trainer),)),
    "usplit_trainer_save": (usplit_status, (POINTER(usplit_trainer), c_char_p)),
    "usplit_trainer_info": (usplit_status, (POINTER(usplit_trainer), POINTER(usplit_trainer_facts))),
    "usplit_trainer_get_epoch": (usplit_status, (POINTER(usplit_trainer), c_int32, POINTER(usplit_trainer_epoch))),
    "usplit_trainer_cancel": (None, (POINTER(usplit_trainer),)),
    "usplit_trainer_free": (None, (POINTER(usplit_trainer),)),
    "usplit_tiler_options_init": (usplit_status, (POINTER(usplit_tiler_options), c_size_t)),
    "usplit_tiler_create": (usplit_status, (POINTER(POINTER(usplit_tiler)), POINTER(usplit_model), POINTER(usplit_tiler_options))),
    "usplit_tiler_plan": (usplit_status, (POINTER(usplit_tiler), c_int64, c_int64, POINTER(usplit_tiler_cost))),
    "usplit_tiler_run": (usplit_status, (POINTER(usplit_tiler), POINTER(usplit_image), POINTER(usplit_image), POINTER(usplit_tiler_result), usplit_progress_fn, c_void_p)),
    "usplit_tiler_run_stream": (usplit_status, (POINTER(usplit_tiler), POINTER(usplit_tiler_stream), POINTER(usplit_tiler_result), usplit_progress_fn, c_void_p)),
    "usplit_tiler_cancel": (None, (POINTER(usplit_tiler),)),
    "usplit_tiler_free": (None, (POINTER(usplit_tiler),)),
    "usplit_dip_options_init": (usplit_status, (POINTER(usplit_dip_options), c_size_t)),
    "usplit_dip_mix": (usplit_status, (POINTER(usplit_image), POINTER(usplit_image), POINTER(usplit_dip_options))),
    "usplit_dip_run": (usplit_status, (POINTER(usplit_context), POINTER(usplit_image), POINTER(usplit_image), POINTER(usplit_dip_options), POINTER(usplit_dip_result), usplit_progress_fn, c_void_p)),
}
