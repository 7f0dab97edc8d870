# The ABI of libusplit as Julia sees it. Written by tools/ffi_gen.py from include/usplit.h: do not edit.
# Handles and callbacks are Ptr{Cvoid}. `symbol` is in USplit.jl.

const VERSION_OF_HEADER = v"0.1.0"

const USPLIT_OK = Int32(0)
const USPLIT_ERR_ARGUMENT = Int32(10)
const USPLIT_ERR_SHAPE = Int32(11)
const USPLIT_ERR_UNSUPPORTED = Int32(12)
const USPLIT_ERR_MEMORY = Int32(20)
const USPLIT_ERR_BUDGET = Int32(21)
const USPLIT_ERR_FILE = Int32(30)
const USPLIT_ERR_FORMAT = Int32(31)
const USPLIT_ERR_CALLBACK = Int32(32)
const USPLIT_ERR_BACKEND = Int32(40)
const USPLIT_ERR_DEVICE = Int32(41)
const USPLIT_ERR_CANCELLED = Int32(50)
const USPLIT_ERR_BUSY = Int32(51)
const USPLIT_ERR_STATE = Int32(52)
const USPLIT_ERR_NUMERIC = Int32(60)
const USPLIT_ERR_INTERNAL = Int32(90)
const USPLIT_PHASE_TRAIN = Int32(1)
const USPLIT_PHASE_VALIDATE = Int32(2)
const USPLIT_PHASE_EPOCH = Int32(3)
const USPLIT_PHASE_TILE = Int32(4)
const USPLIT_PHASE_DIP = Int32(5)
const USPLIT_LOG_INFO = Int32(1)
const USPLIT_LOG_WARNING = Int32(2)
const USPLIT_PRECISION_BEST = Int32(0)
const USPLIT_PRECISION_FLOAT32 = Int32(1)
const USPLIT_PRECISION_FLOAT16 = Int32(2)
const USPLIT_TYPE_U8 = Int32(1)
const USPLIT_TYPE_U16 = Int32(2)
const USPLIT_TYPE_F32 = Int32(3)
const USPLIT_PADDING_REFLECT = Int32(0)
const USPLIT_PADDING_CONSTANT = Int32(1)
const USPLIT_SPLIT_INTERLEAVED = Int32(0)
const USPLIT_SPLIT_SEQUENTIAL = Int32(1)
const USPLIT_SET_ALL = Int32(0)
const USPLIT_SET_TRAIN = Int32(1)
const USPLIT_SET_VALIDATION = Int32(2)
const USPLIT_SET_TEST = Int32(3)
const USPLIT_MAX_CHANNELS = Int32(8)
const USPLIT_NAME_BYTES = Int32(64)
const USPLIT_FAMILY_HVAE = Int32(0)
const USPLIT_FAMILY_HAE = Int32(1)
const USPLIT_FAMILY_UNET = Int32(2)
const USPLIT_FAMILY_BRAVENET = Int32(3)
const USPLIT_VARIANT_VANILLA = Int32(0)
const USPLIT_VARIANT_LEAN = Int32(1)
const USPLIT_VARIANT_REGULAR = Int32(2)
const USPLIT_VARIANT_DEEP = Int32(3)
const USPLIT_VARIANT_CONTEXT_AWARE = Int32(4)
const USPLIT_ACTIVATION_ELU = Int32(0)
const USPLIT_ACTIVATION_RELU = Int32(1)
const USPLIT_ACTIVATION_LEAKY_RELU = Int32(2)
const USPLIT_LOGVAR_PIXELWISE = Int32(0)
const USPLIT_LOGVAR_NONE = Int32(1)
const USPLIT_LOGVAR_CHANNELWISE = Int32(2)
const USPLIT_LOGVAR_GLOBAL = Int32(3)
const USPLIT_MERGE_RESIDUAL = Int32(0)
const USPLIT_MERGE_RESIDUAL_UNGATED = Int32(1)
const USPLIT_MERGE_LINEAR = Int32(2)
const USPLIT_KL_MONTE_CARLO = Int32(0)
const USPLIT_KL_ANALYTICAL = Int32(1)
const USPLIT_LATENT_SCALE_REFERENCE = Int32(0)
const USPLIT_LATENT_SCALE_PAPER = Int32(1)
const USPLIT_LATENT_SCALE_NONE = Int32(2)
const USPLIT_MAX_LEVELS = Int32(12)
const USPLIT_MODE_TRAIN = Int32(1)
const USPLIT_MODE_PREDICT = Int32(2)
const USPLIT_TILING_INNER = Int32(0)
const USPLIT_TILING_OUTER = Int32(1)
const USPLIT_COVER_ALL = Int32(0)
const USPLIT_COVER_WHOLE_TILES = Int32(1)
const USPLIT_LATENT_SAMPLE = Int32(0)
const USPLIT_LATENT_MEAN = Int32(1)
const USPLIT_DIP_SINGLE = Int32(1)
const USPLIT_DIP_TWO = Int32(2)

struct usplit_progress
    struct_size::Csize_t
    phase::Int32
    epoch::Int32
    done::Int64
    total::Int64
    seconds_elapsed::Cdouble
    seconds_left::Cdouble
    loss::Cdouble
    val_psnr::Cdouble
    best_val_psnr::Cdouble
    learning_rate::Cdouble
    patches_per_second::Cdouble
end

struct usplit_context_options
    struct_size::Csize_t
    device::Ptr{UInt8}
    threads::Int32
    precision::Int32
    alloc::Ptr{Cvoid}
    release::Ptr{Cvoid}
    alloc_user::Ptr{Cvoid}
    log::Ptr{Cvoid}
    log_user::Ptr{Cvoid}
    deterministic::Int32
    tune::Int32
    cache_folder::Ptr{UInt8}
end

struct usplit_context_facts
    struct_size::Csize_t
    threads::Int32
    reserved0::Int32
    device::NTuple{64, UInt8}
    reason::NTuple{192, UInt8}
    engine::NTuple{128, UInt8}
end

struct usplit_device_facts
    struct_size::Csize_t
    usable::Int32
    reserved0::Int32
    total_bytes::Int64
    free_bytes::Int64
    name::NTuple{64, UInt8}
    text::NTuple{192, UInt8}
    reason::NTuple{512, UInt8}
end

struct usplit_image
    struct_size::Csize_t
    data::Ptr{Cvoid}
    type::Int32
    reserved0::Int32
    frames::Int64
    height::Int64
    width::Int64
    channels::Int64
    stride_frame::Int64
    stride_row::Int64
    stride_column::Int64
    stride_channel::Int64
end

struct usplit_image_quality
    struct_size::Csize_t
    ri_psnr::Cdouble
    psnr::Cdouble
    ssim::Cdouble
    rmse::Cdouble
end

struct usplit_image_pair_quality
    struct_size::Csize_t
    swapped::Int32
    reserved0::Int32
    ri_psnr::NTuple{2, Cdouble}
    psnr::NTuple{2, Cdouble}
    ssim::NTuple{2, Cdouble}
    rmse::NTuple{2, Cdouble}
end

struct usplit_image_seam_facts
    struct_size::Csize_t
    ratio::Cdouble
    ratio_error::Cdouble
    row_ratio::Cdouble
    row_error::Cdouble
    column_ratio::Cdouble
    column_error::Cdouble
    row_borders::Int64
    column_borders::Int64
end

struct usplit_dataset_options
    struct_size::Csize_t
    split::Int32
    padding::Int32
    padding_value::Cdouble
    validation_fraction::Cdouble
    test_fraction::Cdouble
    clip_quantile::Cdouble
    levels::Int32
    reserved0::Int32
    train_frames::Ptr{Int64}
    validation_frames::Ptr{Int64}
    test_frames::Ptr{Int64}
    n_train_frames::Int64
    n_validation_frames::Int64
    n_test_frames::Int64
end

struct usplit_dataset_reader
    struct_size::Csize_t
    n_frames::Int64
    n_channels::Int64
    frame_size::Ptr{Cvoid}
    read::Ptr{Cvoid}
    user::Ptr{Cvoid}
end

struct usplit_dataset_facts
    struct_size::Csize_t
    n_frames::Int64
    n_train::Int64
    n_validation::Int64
    n_test::Int64
    height::Int64
    width::Int64
    n_channels::Int64
    bytes::Int64
    clip_value::Cdouble
    input_mean::Cdouble
    input_deviation::Cdouble
    target_mean::NTuple{8, Cdouble}
    target_deviation::NTuple{8, Cdouble}
    padding::Int32
    levels::Int32
    padding_value::Cdouble
end

struct usplit_critter_options
    struct_size::Csize_t
    n_frames::Int64
    size::Int64
    n_curves::Int32
    thickness::Int32
    joiner::Int32
    kinds::Int32
    joiner_fraction::Cdouble
    amplitude::Cdouble
    max_vertical_shift::Cdouble
    max_horizontal_shift::Cdouble
    seed::UInt64
end

struct usplit_model_options
    struct_size::Csize_t
    family::Int32
    variant::Int32
    levels::Int32
    lc_count::Int32
    filters::Int32
    patch::Int32
    channels::Int32
    reserved0::Int32
    z_dims::NTuple{12, Int32}
    dropout::Cdouble
    logvar_lower_bound::Cdouble
    var_clip_max::Cdouble
    seed::UInt64
    blocks::Int32
    activation::Int32
    logvar::Int32
    merge::Int32
    kl::Int32
    latent_scale::Int32
    shared_branch::Int32
    ungated::Int32
end

struct usplit_model_facts
    struct_size::Csize_t
    family::Int32
    variant::Int32
    levels::Int32
    lc_count::Int32
    filters::Int32
    patch::Int32
    channels::Int32
    has_normalisation::Int32
    z_dims::NTuple{12, Int32}
    dropout::Cdouble
    logvar_lower_bound::Cdouble
    var_clip_max::Cdouble
    n_parameters::Int64
    n_entries::Int64
    macs::Int64
    clip_value::Cdouble
    input_mean::Cdouble
    input_deviation::Cdouble
    target_mean::NTuple{8, Cdouble}
    target_deviation::NTuple{8, Cdouble}
    padding::Int32
    reserved0::Int32
    padding_value::Cdouble
    epochs_trained::Int64
    steps_trained::Int64
    best_val_psnr::Cdouble
    pixel_size::Cdouble
    channel_names::NTuple{8, NTuple{64, UInt8}}
    blocks::Int32
    activation::Int32
    logvar::Int32
    merge::Int32
    kl::Int32
    latent_scale::Int32
    shared_branch::Int32
    ungated::Int32
end

struct usplit_model_normalisation
    struct_size::Csize_t
    clip_value::Cdouble
    input_mean::Cdouble
    input_deviation::Cdouble
    target_mean::NTuple{8, Cdouble}
    target_deviation::NTuple{8, Cdouble}
    padding::Int32
    reserved0::Int32
    padding_value::Cdouble
    pixel_size::Cdouble
    channel_names::NTuple{8, NTuple{64, UInt8}}
end

struct usplit_model_cost
    struct_size::Csize_t
    macs::Int64
    kept_bytes::Int64
    arena_bytes::Int64
    parameter_bytes::Int64
    n_steps::Int64
end

struct usplit_trainer_options
    struct_size::Csize_t
    batch::Int32
    max_epochs::Int32
    max_steps::Int64
    steps_per_epoch::Int64
    max_seconds::Cdouble
    learning_rate::Cdouble
    clip_norm::Cdouble
    kl_weight::Cdouble
    free_bits::Cdouble
    lr_factor::Cdouble
    lr_patience::Int32
    early_stop_patience::Int32
    seed::UInt64
    max_validation_patches::Int64
    memory_budget::Int64
    best_file::Ptr{UInt8}
    last_file::Ptr{UInt8}
end

struct usplit_trainer_facts
    struct_size::Csize_t
    step::Int64
    skipped_steps::Int64
    epoch::Int32
    stopped_early::Int32
    loss::Cdouble
    reconstruction_loss::Cdouble
    kl_loss::Cdouble
    gradient_norm::Cdouble
    learning_rate::Cdouble
    val_psnr::Cdouble
    best_val_psnr::Cdouble
    best_epoch::Int32
    part_batch::Int32
    arena_bytes::Int64
    steps_per_epoch::Int64
    seconds::Cdouble
end

struct usplit_trainer_epoch
    struct_size::Csize_t
    step::Int64
    loss::Cdouble
    reconstruction_loss::Cdouble
    kl_loss::Cdouble
    val_psnr::Cdouble
    val_loss::Cdouble
    learning_rate::Cdouble
    seconds::Cdouble
    kl_level::NTuple{12, Cdouble}
end

struct usplit_tiler_options
    struct_size::Csize_t
    tiling::Int32
    cover::Int32
    pad::Int32
    samples::Int32
    latent::Int32
    batch::Int32
    seed::UInt64
    memory_budget::Int64
    patch::Int32
    shifts::Int32
    deviations::Int32
    reserved0::Int32
end

struct usplit_tiler_cost
    struct_size::Csize_t
    tiles::Int64
    passes::Int64
    tile_rows::Int64
    tile_columns::Int64
    patch::Int32
    inner::Int32
    batch::Int32
    workers::Int32
    host_bytes::Int64
    device_bytes::Int64
    macs::Int64
    covered_height::Int64
    covered_width::Int64
    seconds::Cdouble
end

struct usplit_tiler_result
    struct_size::Csize_t
    tiles::Int64
    passes::Int64
    peak_bytes::Int64
    seconds::Cdouble
    gain::NTuple{8, Cdouble}
    offset::NTuple{8, Cdouble}
    clip_value::Cdouble
    clipped_pixels::Int64
    saturated_pixels::Int64
    samples::Int32
    latent::Int32
    device::NTuple{64, UInt8}
end

struct usplit_tiler_stream
    struct_size::Csize_t
    height::Int64
    width::Int64
    read::Ptr{Cvoid}
    write::Ptr{Cvoid}
    user::Ptr{Cvoid}
end

struct usplit_dip_options
    struct_size::Csize_t
    mode::Int32
    reserved0::Int32
    iterations::Int64
    learning_rate::Cdouble
    exclusion_weight::Cdouble
    mix::NTuple{2, Cdouble}
    seed::UInt64
    max_seconds::Cdouble
end

struct usplit_dip_result
    struct_size::Csize_t
    mode::Int32
    reserved0::Int32
    iterations::Int64
    best_iteration::Int64
    psnr::Cdouble
    loss::Cdouble
    reconstruction_loss::Cdouble
    exclusion_loss::Cdouble
    share::NTuple{2, Cdouble}
    low::Cdouble
    high::Cdouble
    macs::Int64
    bytes::Int64
    seconds::Cdouble
end

function usplit_version()
    address = symbol(:usplit_version)
    @ccall $address()::Int32
end

function usplit_error_message()
    address = symbol(:usplit_error_message)
    @ccall $address()::Cstring
end

function usplit_status_name(status)
    address = symbol(:usplit_status_name)
    @ccall $address(status::Int32)::Cstring
end

function usplit_context_options_init(options, struct_size)
    address = symbol(:usplit_context_options_init)
    @ccall $address(options::Ptr{usplit_context_options}, struct_size::Csize_t)::Int32
end

function usplit_context_create(out, options)
    address = symbol(:usplit_context_create)
    @ccall $address(out::Ptr{Ptr{Cvoid}}, options::Ptr{usplit_context_options})::Int32
end

function usplit_context_free(context)
    address = symbol(:usplit_context_free)
    @ccall $address(context::Ptr{Cvoid})::Cvoid
end

function usplit_context_info(context, facts)
    address = symbol(:usplit_context_info)
    @ccall $address(context::Ptr{Cvoid}, facts::Ptr{usplit_context_facts})::Int32
end

function usplit_device_count(count)
    address = symbol(:usplit_device_count)
    @ccall $address(count::Ptr{Int32})::Int32
end

function usplit_device_info(index, facts)
    address = symbol(:usplit_device_info)
    @ccall $address(index::Int32, facts::Ptr{usplit_device_facts})::Int32
end

function usplit_image_init(image, struct_size, data, type, frames, height, width, channels)
    address = symbol(:usplit_image_init)
    @ccall $address(image::Ptr{usplit_image}, struct_size::Csize_t, data::Ptr{Cvoid}, type::Int32, frames::Int64, height::Int64, width::Int64, channels::Int64)::Int32
end

function usplit_image_compare(target, prediction, quality)
    address = symbol(:usplit_image_compare)
    @ccall $address(target::Ptr{usplit_image}, prediction::Ptr{usplit_image}, quality::Ptr{usplit_image_quality})::Int32
end

function usplit_image_compare_pair(target, prediction, quality)
    address = symbol(:usplit_image_compare_pair)
    @ccall $address(target::Ptr{usplit_image}, prediction::Ptr{usplit_image}, quality::Ptr{usplit_image_pair_quality})::Int32
end

function usplit_image_seams(plane, tile, row, column, facts)
    address = symbol(:usplit_image_seams)
    @ccall $address(plane::Ptr{usplit_image}, tile::Int64, row::Int64, column::Int64, facts::Ptr{usplit_image_seam_facts})::Int32
end

function usplit_dataset_options_init(options, struct_size)
    address = symbol(:usplit_dataset_options_init)
    @ccall $address(options::Ptr{usplit_dataset_options}, struct_size::Csize_t)::Int32
end

function usplit_critter_options_init(options, struct_size)
    address = symbol(:usplit_critter_options_init)
    @ccall $address(options::Ptr{usplit_critter_options}, struct_size::Csize_t)::Int32
end

function usplit_dataset_create(out, context, images, n_images, options)
    address = symbol(:usplit_dataset_create)
    @ccall $address(out::Ptr{Ptr{Cvoid}}, context::Ptr{Cvoid}, images::Ptr{usplit_image}, n_images::Csize_t, options::Ptr{usplit_dataset_options})::Int32
end

function usplit_dataset_create_reader(out, context, reader, options)
    address = symbol(:usplit_dataset_create_reader)
    @ccall $address(out::Ptr{Ptr{Cvoid}}, context::Ptr{Cvoid}, reader::Ptr{usplit_dataset_reader}, options::Ptr{usplit_dataset_options})::Int32
end

function usplit_dataset_create_critters(out, context, critters, options)
    address = symbol(:usplit_dataset_create_critters)
    @ccall $address(out::Ptr{Ptr{Cvoid}}, context::Ptr{Cvoid}, critters::Ptr{usplit_critter_options}, options::Ptr{usplit_dataset_options})::Int32
end

function usplit_dataset_open(out, context, file, path_in_file, options)
    address = symbol(:usplit_dataset_open)
    @ccall $address(out::Ptr{Ptr{Cvoid}}, context::Ptr{Cvoid}, file::Cstring, path_in_file::Cstring, options::Ptr{usplit_dataset_options})::Int32
end

function usplit_dataset_free(dataset)
    address = symbol(:usplit_dataset_free)
    @ccall $address(dataset::Ptr{Cvoid})::Cvoid
end

function usplit_dataset_info(dataset, facts)
    address = symbol(:usplit_dataset_info)
    @ccall $address(dataset::Ptr{Cvoid}, facts::Ptr{usplit_dataset_facts})::Int32
end

function usplit_dataset_get_set(dataset, set, frames, n)
    address = symbol(:usplit_dataset_get_set)
    @ccall $address(dataset::Ptr{Cvoid}, set::Int32, frames::Ptr{Int64}, n::Ptr{Int64})::Int32
end

function usplit_dataset_get_frame(dataset, frame, channel, level, dst, height, width)
    address = symbol(:usplit_dataset_get_frame)
    @ccall $address(dataset::Ptr{Cvoid}, frame::Int64, channel::Int64, level::Int32, dst::Ptr{Cfloat}, height::Ptr{Int64}, width::Ptr{Int64})::Int32
end

function usplit_model_options_init(options, struct_size)
    address = symbol(:usplit_model_options_init)
    @ccall $address(options::Ptr{usplit_model_options}, struct_size::Csize_t)::Int32
end

function usplit_model_create(out, context, options)
    address = symbol(:usplit_model_create)
    @ccall $address(out::Ptr{Ptr{Cvoid}}, context::Ptr{Cvoid}, options::Ptr{usplit_model_options})::Int32
end

function usplit_model_load(out, context, file)
    address = symbol(:usplit_model_load)
    @ccall $address(out::Ptr{Ptr{Cvoid}}, context::Ptr{Cvoid}, file::Cstring)::Int32
end

function usplit_model_save(model, file)
    address = symbol(:usplit_model_save)
    @ccall $address(model::Ptr{Cvoid}, file::Cstring)::Int32
end

function usplit_model_free(model)
    address = symbol(:usplit_model_free)
    @ccall $address(model::Ptr{Cvoid})::Cvoid
end

function usplit_model_info(model, facts)
    address = symbol(:usplit_model_info)
    @ccall $address(model::Ptr{Cvoid}, facts::Ptr{usplit_model_facts})::Int32
end

function usplit_model_set_normalisation(model, normalisation)
    address = symbol(:usplit_model_set_normalisation)
    @ccall $address(model::Ptr{Cvoid}, normalisation::Ptr{usplit_model_normalisation})::Int32
end

function usplit_model_get_entry(model, index, name, shape, n_dims)
    address = symbol(:usplit_model_get_entry)
    @ccall $address(model::Ptr{Cvoid}, index::Int64, name::Ptr{Cstring}, shape::Ptr{Int64}, n_dims::Ptr{Int32})::Int32
end

function usplit_model_get_parameter(model, name, dst, count)
    address = symbol(:usplit_model_get_parameter)
    @ccall $address(model::Ptr{Cvoid}, name::Cstring, dst::Ptr{Cfloat}, count::Int64)::Int32
end

function usplit_model_set_parameter(model, name, src, count)
    address = symbol(:usplit_model_set_parameter)
    @ccall $address(model::Ptr{Cvoid}, name::Cstring, src::Ptr{Cfloat}, count::Int64)::Int32
end

function usplit_model_plan(model, mode, batch, inner, cost)
    address = symbol(:usplit_model_plan)
    @ccall $address(model::Ptr{Cvoid}, mode::Int32, batch::Int32, inner::Int32, cost::Ptr{usplit_model_cost})::Int32
end

function usplit_model_plan_text(model, mode, batch, inner, line, user)
    address = symbol(:usplit_model_plan_text)
    @ccall $address(model::Ptr{Cvoid}, mode::Int32, batch::Int32, inner::Int32, line::Ptr{Cvoid}, user::Ptr{Cvoid})::Int32
end

function usplit_model_check(model, error)
    address = symbol(:usplit_model_check)
    @ccall $address(model::Ptr{Cvoid}, error::Ptr{Cdouble})::Int32
end

function usplit_trainer_options_init(options, struct_size)
    address = symbol(:usplit_trainer_options_init)
    @ccall $address(options::Ptr{usplit_trainer_options}, struct_size::Csize_t)::Int32
end

function usplit_trainer_create(out, model, dataset, options)
    address = symbol(:usplit_trainer_create)
    @ccall $address(out::Ptr{Ptr{Cvoid}}, model::Ptr{Cvoid}, dataset::Ptr{Cvoid}, options::Ptr{usplit_trainer_options})::Int32
end

function usplit_trainer_resume(trainer, last_file)
    address = symbol(:usplit_trainer_resume)
    @ccall $address(trainer::Ptr{Cvoid}, last_file::Cstring)::Int32
end

function usplit_trainer_run(trainer, progress, user)
    address = symbol(:usplit_trainer_run)
    @ccall $address(trainer::Ptr{Cvoid}, progress::Ptr{Cvoid}, user::Ptr{Cvoid})::Int32
end

function usplit_trainer_step(trainer)
    address = symbol(:usplit_trainer_step)
    @ccall $address(trainer::Ptr{Cvoid})::Int32
end

function usplit_trainer_save(trainer, file)
    address = symbol(:usplit_trainer_save)
    @ccall $address(trainer::Ptr{Cvoid}, file::Cstring)::Int32
end

function usplit_trainer_info(trainer, facts)
    address = symbol(:usplit_trainer_info)
    @ccall $address(trainer::Ptr{Cvoid}, facts::Ptr{usplit_trainer_facts})::Int32
end

function usplit_trainer_get_epoch(trainer, epoch, row)
    address = symbol(:usplit_trainer_get_epoch)
    @ccall $address(trainer::Ptr{Cvoid}, epoch::Int32, row::Ptr{usplit_trainer_epoch})::Int32
end

function usplit_trainer_cancel(trainer)
    address = symbol(:usplit_trainer_cancel)
    @ccall $address(trainer::Ptr{Cvoid})::Cvoid
end

function usplit_trainer_free(trainer)
    address = symbol(:usplit_trainer_free)
    @ccall $address(trainer::Ptr{Cvoid})::Cvoid
end

function usplit_tiler_options_init(options, struct_size)
    address = symbol(:usplit_tiler_options_init)
    @ccall $address(options::Ptr{usplit_tiler_options}, struct_size::Csize_t)::Int32
end

function usplit_tiler_create(out, model, options)
    address = symbol(:usplit_tiler_create)
    @ccall $address(out::Ptr{Ptr{Cvoid}}, model::Ptr{Cvoid}, options::Ptr{usplit_tiler_options})::Int32
end

function usplit_tiler_plan(tiler, height, width, cost)
    address = symbol(:usplit_tiler_plan)
    @ccall $address(tiler::Ptr{Cvoid}, height::Int64, width::Int64, cost::Ptr{usplit_tiler_cost})::Int32
end

function usplit_tiler_run(tiler, src, dst, result, progress, user)
    address = symbol(:usplit_tiler_run)
    @ccall $address(tiler::Ptr{Cvoid}, src::Ptr{usplit_image}, dst::Ptr{usplit_image}, result::Ptr{usplit_tiler_result}, progress::Ptr{Cvoid}, user::Ptr{Cvoid})::Int32
end

function usplit_tiler_run_stream(tiler, stream, result, progress, user)
    address = symbol(:usplit_tiler_run_stream)
    @ccall $address(tiler::Ptr{Cvoid}, stream::Ptr{usplit_tiler_stream}, result::Ptr{usplit_tiler_result}, progress::Ptr{Cvoid}, user::Ptr{Cvoid})::Int32
end

function usplit_tiler_cancel(tiler)
    address = symbol(:usplit_tiler_cancel)
    @ccall $address(tiler::Ptr{Cvoid})::Cvoid
end

function usplit_tiler_free(tiler)
    address = symbol(:usplit_tiler_free)
    @ccall $address(tiler::Ptr{Cvoid})::Cvoid
end

function usplit_dip_options_init(options, struct_size)
    address = symbol(:usplit_dip_options_init)
    @ccall $address(options::Ptr{usplit_dip_options}, struct_size::Csize_t)::Int32
end

function usplit_dip_mix(pair, mixtures, options)
    address = symbol(:usplit_dip_mix)
    @ccall $address(pair::Ptr{usplit_image}, mixtures::Ptr{usplit_image}, options::Ptr{usplit_dip_options})::Int32
end

function usplit_dip_run(context, mixtures, dst, options, result, progress, user)
    address = symbol(:usplit_dip_run)
    @ccall $address(context::Ptr{Cvoid}, mixtures::Ptr{usplit_image}, dst::Ptr{usplit_image}, options::Ptr{usplit_dip_options}, result::Ptr{usplit_dip_result}, progress::Ptr{Cvoid}, user::Ptr{Cvoid})::Int32
end
