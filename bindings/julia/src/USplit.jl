# libusplit from Julia: learn to split superimposed structures in fluorescence images, and split them.
#
# abi.jl is written by tools/ffi_gen.py and holds the structs, constants and functions of usplit.h under their own
# names; this file makes them comfortable. Three decisions:
#
# Progress comes by a callback, not by polling. The library calls back on the very thread that made the call, which is a
# Julia thread, so no foreign thread ever enters Julia; polling would need the call itself on another thread. What a
# callback raises is kept, the library is told to stop, and it is thrown when the call has returned: nothing unwinds
# through C. Ctrl-C is held back during the call and let in within the callback, where it is such an exception.
#
# The library's call stands below a callback on the stack and belongs to its thread. So from a task that Julia may move
# to another thread (Threads.@spawn) a callback must not switch tasks: no yield, wait, lock, or printing. The main task
# stays on its thread and may print.
#
# Finalisers free handles in whatever order and on whatever thread the collector takes them: the library counts
# references, and a handle keeps what it was made from alive.
module USplit

using Libdl

export Context, Dataset, Model, Trainer, Tiler, USplitError
export critters, load, save, info, fit!, step!, cancel, plan, split_image, split_rows, compare, mixed, devices
export compare_pair, residual, seams, calibrate, calibration, set_calibration!, dip, dip_mix

# ---- The library ------------------------------------------------------------------------------------------------

const library = Ref{Ptr{Cvoid}}(C_NULL)

symbol(name::Symbol) = dlsym(library[], name)

include("abi.jl")

# In the order of docs/julia.md: the variable, a checkout's lib/, the system.
function find_library()
    named = get(ENV, "USPLIT_LIBRARY", "")
    isempty(named) || return named
    name = "libusplit.so.$(VERSION_OF_HEADER.major)"
    checkout = normpath(joinpath(@__DIR__, "..", "..", ".."))
    built = joinpath(checkout, "lib", name)
    isfile(joinpath(checkout, "include", "usplit.h")) && isfile(built) ? built : name
end

const progress_callback = Ref{Ptr{Cvoid}}(C_NULL)
const read_callback = Ref{Ptr{Cvoid}}(C_NULL)
const write_callback = Ref{Ptr{Cvoid}}(C_NULL)

function __init__()
    library[] = dlopen(find_library())
    progress_callback[] = @cfunction(on_progress, Int32, (Ptr{usplit_progress}, Ptr{Cvoid}))
    read_callback[] = @cfunction(on_read, Int32, (Int64, Int64, Ptr{Cfloat}, Ptr{Cvoid}))
    write_callback[] = @cfunction(on_write, Int32, (Int64, Int64, Ptr{Cfloat}, Ptr{Cvoid}))
end

version() = (v = usplit_version(); VersionNumber(v ÷ 10000, v ÷ 100 % 100, v % 100))

# ---- Errors -----------------------------------------------------------------------------------------------------

"What the library refused or could not do: its status, and its line with the offending value and what is accepted."
struct USplitError <: Exception
    status::Int32
    message::String
end

Base.showerror(io::IO, e::USplitError) =
    print(io, "USplitError: ", unsafe_string(usplit_status_name(e.status)), ": ", e.message)

# The message belongs to the thread; between the call and here no task switch can happen.
check(status::Int32) = status == USPLIT_OK ? nothing : throw(USplitError(status, unsafe_string(usplit_error_message())))

# ---- Structs ----------------------------------------------------------------------------------------------------

# A field's value from what a caller wrote: symbols are constants (family = :hae), numbers are repeated into arrays'
# first place, strings and vectors become pointers, which `roots` keeps alive.
value(roots, name, ::Type{F}, v) where {F<:Real} = v isa Symbol ? F(constant(name, v)) : F(v)
function value(roots, name, ::Type{Ptr{UInt8}}, v::AbstractString)
    occursin('\0', v) && throw(ArgumentError("$name has a zero byte in it"))
    text = String(v)
    push!(roots, text)
    pointer(text)
end
function value(roots, name, ::Type{Ptr{Int64}}, v::AbstractVector{<:Integer})
    numbers = isempty(v) ? Int64[0] : Vector{Int64}(v)      # never NULL, which would mean "not given"
    push!(roots, numbers)
    pointer(numbers)
end
function value(roots, name, ::Type{NTuple{N,F}}, v) where {N,F<:Real}
    length(v) <= N || throw(ArgumentError("$name has $(length(v)) values; accepted: up to $N"))
    ntuple(i -> i <= length(v) ? F(v[i]) : zero(F), N)
end

function constant(name, v::Symbol)
    wanted = Symbol("USPLIT_", uppercase(string(name)), "_", uppercase(string(v)))
    isdefined(USplit, wanted) || throw(ArgumentError("$name is :$v, and usplit.h has no $wanted"))
    getfield(USplit, wanted)
end

# The struct with some fields changed, and what must live as long as it is used.
function with(o::T; changes...) where {T}
    given, roots = Dict{Symbol,Any}(changes), Any[]
    for (name, v) in changes
        name in fieldnames(T) || throw(ArgumentError("$T has no field $name; it has: $(join(fieldnames(T), ", "))"))
        fieldtype(T, name) === Ptr{Int64} && (given[Symbol("n_", name)] = length(v))
    end
    fields = map(n -> haskey(given, n) ? value(roots, n, fieldtype(T, n), given[n]) : getfield(o, n), fieldnames(T))
    T(fields...), roots
end

# The library's defaults with the caller's changes.
function options(::Type{T}, init; changes...) where {T}
    r = Ref{T}()
    check(init(r, sizeof(T)))
    with(r[]; changes...)
end

# An empty struct for the library to fill; its fields are numbers, pointers and tuples of them.
empty_struct(::Type{T}) where {T} = T(sizeof(T), map(n -> zeros_of(fieldtype(T, n)), fieldnames(T)[2:end])...)
zeros_of(::Type{F}) where {F<:Real} = zero(F)
zeros_of(::Type{Ptr{F}}) where {F} = Ptr{F}(C_NULL)
zeros_of(::Type{NTuple{N,F}}) where {N,F} = ntuple(_ -> zeros_of(F), N)

function ask(call, ::Type{T}) where {T}
    r = Ref(empty_struct(T))
    check(call(r))
    r[]
end

"Text of a field such as `info(context).device`."
text(bytes::NTuple{N,UInt8}) where {N} = String(collect(Iterators.takewhile(!=(0x00), bytes)))

# ---- Handles ----------------------------------------------------------------------------------------------------

for (name, free) in ((:Context, :usplit_context_free), (:Dataset, :usplit_dataset_free), (:Model, :usplit_model_free),
                     (:Trainer, :usplit_trainer_free), (:Tiler, :usplit_tiler_free))
    @eval begin
        mutable struct $name
            pointer::Ptr{Cvoid}
            global function $(Symbol(:own_, lowercase(string(name))))(pointer::Ptr{Cvoid})
                finalizer(h -> $free(h.pointer), new(pointer))
            end
        end
        # A handle in an argument's place is its pointer, and is kept alive during the call.
        Base.unsafe_convert(::Type{Ptr{Cvoid}}, h::$name) = h.pointer
    end
end

function open_handle(own, call)
    out = Ref{Ptr{Cvoid}}(C_NULL)
    check(call(out))
    own(out[])
end

# ---- Long calls ---------------------------------------------------------------------------------------------------

mutable struct Running
    report::Any             # a function of usplit_progress, or nothing
    error::Any
end

function on_progress(p::Ptr{usplit_progress}, user::Ptr{Cvoid})::Int32
    r = unsafe_pointer_to_objref(user)::Running
    try
        Base.reenable_sigint() do
            stop = r.report !== nothing && r.report(unsafe_load(p)) === false
            Int32(stop)
        end
    catch e
        r.error = e
        Int32(1)
    end
end

# call(progress, user) with Ctrl-C held back; `report` returns false to stop.
function long(call, report)
    r = Running(report, nothing)
    status = GC.@preserve r Base.disable_sigint(() -> call(progress_callback[], pointer_from_objref(r)))
    r.error === nothing || throw(r.error)
    check(status)
end

# ---- Context, devices ---------------------------------------------------------------------------------------------

"Device and threads: Context(device = \"cpu\", threads = 2). Fields of usplit_context_options."
function Context(; changes...)
    o, roots = options(usplit_context_options, usplit_context_options_init; changes...)
    GC.@preserve roots open_handle(own_context, out -> usplit_context_create(out, Ref(o)))
end

info(c::Context) = ask(facts -> usplit_context_info(c, facts), usplit_context_facts)

function devices()
    n = Ref{Int32}(0)
    check(usplit_device_count(n))
    [ask(facts -> usplit_device_info(i - 1, facts), usplit_device_facts) for i in 1:n[]]
end

# ---- Images: rows x columns, rows x columns x frames ----------------------------------------------------------------

const Pixel = Union{UInt8,UInt16,Float32}
type_of(::Type{UInt8}) = USPLIT_TYPE_U8
type_of(::Type{UInt16}) = USPLIT_TYPE_U16
type_of(::Type{Float32}) = USPLIT_TYPE_F32

# A view through the array's strides, without a copy. The array must be kept alive while it is used.
function image(a::StridedArray{T}, frames::Int, channels::Int, frame_axis::Int, channel_axis::Int) where {T<:Pixel}
    r, bytes = Ref{usplit_image}(), sizeof(T)
    check(usplit_image_init(r, sizeof(usplit_image), pointer(a), type_of(T), frames, size(a, 1), size(a, 2), channels))
    along(axis) = axis > 0 ? stride(a, axis) * bytes : 0
    with(r[]; stride_row = along(1), stride_column = along(2), stride_frame = along(frame_axis),
         stride_channel = along(channel_axis))[1]
end
source(a::StridedMatrix) = image(a, 1, 1, 0, 0)
source(a::StridedArray{<:Pixel,3}) = image(a, size(a, 3), 1, 3, 0)
target(a::StridedArray{<:Pixel,3}) = image(a, 1, size(a, 3), 0, 3)
target(a::StridedArray{<:Pixel,4}) = image(a, size(a, 4), size(a, 3), 4, 3)

"Range-invariant PSNR, PSNR, SSIM and root mean square error of a prediction."
function compare(target::StridedMatrix, prediction::StridedMatrix)
    GC.@preserve target prediction begin
        t, p = Ref(source(target)), Ref(source(prediction))
        ask(quality -> usplit_image_compare(t, p, quality), usplit_image_quality)
    end
end

"The same of two channels (rows x columns x 2) whose order is not known, as `dip` gives them."
function compare_pair(truth::StridedArray{<:Pixel,3}, prediction::StridedArray{<:Pixel,3})
    GC.@preserve truth prediction begin
        t, p = Ref(target(truth)), Ref(target(prediction))
        ask(quality -> usplit_image_compare_pair(t, p, quality), usplit_image_pair_quality)
    end
end

"Are the borders of tiles visible in a predicted plane? tile: `plan(t, height, width).inner`; row, column: where some
tile begins, from 0, if the plane is a crop. Gives usplit_image_seam_facts."
function seams(plane::StridedMatrix{<:Pixel}, tile::Integer; row::Integer = 0, column::Integer = 0)
    GC.@preserve plane begin
        p = Ref(source(plane))
        ask(facts -> usplit_image_seams(p, tile, row, column, facts), usplit_image_seam_facts)
    end
end

"What planes (rows x columns x channels) leave of the image that was split: min(a, clip_value) - the sum of weight x
plane. Returns it and its figures. weights: a number per plane, of `info(m).mixture_weight`; nothing: their mean.
clip_value: that of the tiler's result."
function residual(a::StridedMatrix{<:Pixel}, planes::StridedArray{<:Pixel,3}; weights = nothing, clip_value = Inf)
    w = weights === nothing ? C_NULL : Float64[weights...]
    w === C_NULL || length(w) == size(planes, 3) ||
        throw(ArgumentError("weights has $(length(w)) numbers; accepted: $(size(planes, 3)), one per plane"))
    rest = Matrix{Float32}(undef, size(a, 1), size(a, 2))
    facts = GC.@preserve a planes rest begin
        x, y, r = Ref(source(a)), Ref(target(planes)), Ref(source(rest))
        ask(f -> usplit_image_residual(x, y, w, clip_value, r, f), usplit_residual_facts)
    end
    rest, facts
end

# ---- Dataset --------------------------------------------------------------------------------------------------------

dataset_options(changes) = options(usplit_dataset_options, usplit_dataset_options_init; changes...)

"From one array per channel, each rows x columns (x frames). Options: fields of usplit_dataset_options."
function Dataset(c::Context, channels::StridedArray...; changes...)
    o, roots = dataset_options(changes)
    GC.@preserve channels roots begin
        images = [source(a) for a in channels]
        open_handle(own_dataset, out -> usplit_dataset_create(out, c, images, length(images), Ref(o)))
    end
end

"From an HDF5 file."
function Dataset(c::Context, file::AbstractString, path = C_NULL; changes...)
    o, roots = dataset_options(changes)
    GC.@preserve roots open_handle(own_dataset, out -> usplit_dataset_open(out, c, file, path, Ref(o)))
end

"The paper's synthetic data: critters(context; n_frames = 100, kinds = 1). Fields of either options struct."
function critters(c::Context; changes...)
    own = Dict(k => v for (k, v) in changes if k in fieldnames(usplit_critter_options))
    rest = Dict(k => v for (k, v) in changes if !(k in fieldnames(usplit_critter_options)))
    made, _ = options(usplit_critter_options, usplit_critter_options_init; own...)
    o, roots = dataset_options(rest)
    GC.@preserve roots open_handle(own_dataset,
                                   out -> usplit_dataset_create_critters(out, c, Ref(made), Ref(o)))
end

info(d::Dataset) = ask(facts -> usplit_dataset_info(d, facts), usplit_dataset_facts)

"One clipped channel of a frame; frames and channels count from 0, as in usplit.h."
function frame(d::Dataset, number::Integer, channel::Integer, level::Integer = 0)
    height, width = Ref{Int64}(0), Ref{Int64}(0)
    check(usplit_dataset_get_frame(d, number, channel, level, C_NULL, height, width))
    rows = Matrix{Float32}(undef, width[], height[])            # row by row, so columns first here
    check(usplit_dataset_get_frame(d, number, channel, level, rows, height, width))
    permutedims(rows)
end

"The mean of a frame's channels: what a model learns to split."
mixed(d::Dataset, number::Integer) = sum(frame(d, number, c) for c in 0:info(d).n_channels-1) ./
                                     Float32(info(d).n_channels)

# ---- Model ----------------------------------------------------------------------------------------------------------

"A fresh model: Model(context; family = :hae, variant = :lean, levels = 2). Fields of usplit_model_options."
function Model(c::Context; changes...)
    o, roots = options(usplit_model_options, usplit_model_options_init; changes...)
    GC.@preserve roots open_handle(own_model, out -> usplit_model_create(out, c, Ref(o)))
end

load(c::Context, file::AbstractString) = open_handle(own_model, out -> usplit_model_load(out, c, file))
save(m::Model, file::AbstractString) = check(usplit_model_save(m, file))
info(m::Model) = ask(facts -> usplit_model_info(m, facts), usplit_model_facts)

# ---- Trainer --------------------------------------------------------------------------------------------------------

"Trainer(model, dataset; batch = 32, max_epochs = 200, last_file = \"last.h5\"). Fields of usplit_trainer_options."
function Trainer(m::Model, d::Dataset; changes...)
    o, roots = options(usplit_trainer_options, usplit_trainer_options_init; changes...)
    GC.@preserve roots open_handle(own_trainer, out -> usplit_trainer_create(out, m, d, Ref(o)))
end

"Trains until a limit. progress: a function of usplit_progress; it stops the training by returning false."
function fit!(t::Trainer; progress = nothing)
    long((callback, user) -> usplit_trainer_run(t, callback, user), progress)
    info(t)
end

step!(t::Trainer) = check(usplit_trainer_step(t))
resume!(t::Trainer, file::AbstractString) = check(usplit_trainer_resume(t, file))
save(t::Trainer, file::AbstractString) = check(usplit_trainer_save(t, file))
info(t::Trainer) = ask(facts -> usplit_trainer_info(t, facts), usplit_trainer_facts)
cancel(t::Trainer) = usplit_trainer_cancel(t)

# ---- Tiler ----------------------------------------------------------------------------------------------------------

"Prepared prediction: Tiler(model; samples = 8, seed = 1). Fields of usplit_tiler_options."
function Tiler(m::Model; changes...)
    o, roots = options(usplit_tiler_options, usplit_tiler_options_init; changes...)
    GC.@preserve roots open_handle(own_tiler, out -> usplit_tiler_create(out, m, Ref(o)))
end

cancel(t::Tiler) = usplit_tiler_cancel(t)
plan(t::Tiler, height::Integer, width::Integer) =
    ask(cost -> usplit_tiler_plan(t, height, width, cost), usplit_tiler_cost)

"Splits rows x columns into rows x columns x channels, or a stack (x frames) frame by frame. Returns the planes and what
the run did. `channels` is that of the model, or twice that for a tiler with deviations = 1: as many planes of standard
deviations follow."
function split_image(t::Tiler, a::StridedArray{<:Pixel}, channels::Integer; progress = nothing)
    ndims(a) in (2, 3) || throw(ArgumentError("the image has $(ndims(a)) axes; accepted: rows, columns (, frames)"))
    planes = Array{Float32}(undef, size(a, 1), size(a, 2), channels, size(a)[3:end]...)
    result = Ref(empty_struct(usplit_tiler_result))
    GC.@preserve a planes begin
        src, dst = Ref(source(a)), Ref(target(planes))
        long((callback, user) -> usplit_tiler_run(t, src, dst, result, callback, user), progress)
    end
    planes, result[]
end
function split_image(m::Model, a::StridedArray{<:Pixel}; progress = nothing, deviations::Integer = 0, changes...)
    channels = info(m).channels * (deviations == 0 ? 1 : 2)
    split_image(Tiler(m; deviations = deviations, changes...), a, channels; progress = progress)
end

mutable struct Streaming
    read!::Any
    write::Any
    width::Int
    channels::Int
    error::Any
end

function on_read(row::Int64, n::Int64, dst::Ptr{Cfloat}, user::Ptr{Cvoid})::Int32
    s = unsafe_pointer_to_objref(user)::Streaming
    try
        s.read!(unsafe_wrap(Array, dst, (s.width, Int(n))), Int(row)+1:Int(row + n))
        Int32(0)
    catch e
        s.error = e
        Int32(1)
    end
end

function on_write(row::Int64, n::Int64, src::Ptr{Cfloat}, user::Ptr{Cvoid})::Int32
    s = unsafe_pointer_to_objref(user)::Streaming
    try
        s.write(Int(row)+1:Int(row + n), unsafe_wrap(Array, src, (s.width, Int(n), s.channels)))
        Int32(0)
    catch e
        s.error = e
        Int32(1)
    end
end

"An image larger than memory. read!(buffer, rows) fills buffer (columns x rows) with those rows; write(rows, planes)
takes columns x rows x channels, the library's memory: copy what is to stay. Rows are a range that counts from 1; a row
may be read more than once, and is written once, in order."
function split_rows(read!, write, t::Tiler, height::Integer, width::Integer, channels::Integer; progress = nothing)
    s = Streaming(read!, write, width, channels, nothing)
    result = Ref(empty_struct(usplit_tiler_result))
    GC.@preserve s begin
        stream = usplit_tiler_stream(sizeof(usplit_tiler_stream), height, width, read_callback[], write_callback[],
                                     pointer_from_objref(s), 0, 0)
        try
            long((callback, user) -> usplit_tiler_run_stream(t, Ref(stream), result, callback, user), progress)
        catch
            s.error === nothing || throw(s.error)
            rethrow()
        end
    end
    result[]
end

# ---- Calibration ----------------------------------------------------------------------------------------------------

"Fits the real error of a set's frames, which must not have been trained on, to the deviations over samples or shifts:
calibrate(m, d; samples = 20). Further options: fields of usplit_tiler_options. The model is not changed."
function calibrate(m::Model, d::Dataset; set::Symbol = :validation, progress = nothing, changes...)
    o, roots = options(usplit_tiler_options, usplit_tiler_options_init; changes...)
    made, which = Ref(empty_struct(usplit_calibration)), constant(:set, set)
    GC.@preserve roots long(
        (callback, user) -> usplit_model_calibrate(m, d, which, Ref(o), made, callback, user), progress)
    made[]
end

"The model's calibration, or nothing. `save` writes it, Tiler(m; deviations = 1, calibrated = 1) applies it."
calibration(m::Model) = info(m).has_calibration == 0 ? nothing :
                        ask(out -> usplit_model_get_calibration(m, out), usplit_calibration)
"What `calibrate` returned is kept in the model; nothing removes it."
set_calibration!(m::Model, c::usplit_calibration) = check(usplit_model_set_calibration(m, Ref(c)))
set_calibration!(m::Model, ::Nothing) = check(usplit_model_set_calibration(m, C_NULL))

# ---- Double-DIP: one image apart without training -------------------------------------------------------------------

"Mixtures of two known structures (rows x columns x 2) to try `dip` on: mix[i] * first + (1 - mix[i]) * second."
function dip_mix(pair::StridedArray{<:Pixel,3}, mix = (0.5, 0.3))
    length(mix) in (1, 2) || throw(ArgumentError("mix has $(length(mix)) numbers; accepted: 1 or 2"))
    o, _ = options(usplit_dip_options, usplit_dip_options_init; mix = mix)
    mixtures = Array{Float32}(undef, size(pair, 1), size(pair, 2), length(mix))
    GC.@preserve pair mixtures check(usplit_dip_mix(Ref(target(pair)), Ref(target(mixtures)), Ref(o)))
    mixtures
end

"Splits one image, or two mixtures of the same structures (rows x columns x 2), into two estimates, rows x columns x 2:
minutes to hours, on a context of the CPU. Options: fields of usplit_dip_options. Returns the estimates and what the run
did; score them by `compare_pair`. planes: an array for them, which has the best so far when `progress` stops the run."
function dip(c::Context, mixtures::StridedArray{<:Pixel}; progress = nothing,
             planes = Array{Float32}(undef, size(mixtures, 1), size(mixtures, 2), 2), changes...)
    ndims(mixtures) in (2, 3) ||
        throw(ArgumentError("mixtures has $(ndims(mixtures)) axes; accepted: rows, columns (, 2)"))
    o, roots = options(usplit_dip_options, usplit_dip_options_init; changes...)
    result = Ref(empty_struct(usplit_dip_result))
    GC.@preserve roots mixtures planes begin
        src, dst = Ref(ndims(mixtures) == 2 ? source(mixtures) : target(mixtures)), Ref(target(planes))
        long((callback, user) -> usplit_dip_run(c, src, dst, Ref(o), result, callback, user), progress)
    end
    planes, result[]
end

end
