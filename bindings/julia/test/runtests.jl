# What the package promises, on a very small network. Run: julia --project=bindings/julia -e 'using Pkg; Pkg.test()'
using Test
using USplit

tiny(c) = Model(c; family = :hae, variant = :lean, levels = 2, lc_count = 2, filters = 8, z_dims = 8, patch = 32)

frame_of(d, channel) = USplit.frame(d, 0, channel)

@testset "USplit" begin
    c = Context(device = "cpu", threads = 1)
    @test USplit.text(info(c).device) == "cpu"
    d = critters(c; n_frames = 10, size = 64, n_curves = 2, kinds = 1, levels = 3)
    @test info(d).n_frames == 10
    @test_throws ArgumentError Model(c; family = :nothing)
    @test_throws USplitError Model(c; levels = 99)

    m = tiny(c)
    seen = Ref(0)
    t = Trainer(m, d; batch = 2, steps_per_epoch = 2, max_epochs = 2)
    @test fit!(t; progress = p -> (seen[] += 1; true)).step == 4
    @test seen[] > 0
    again = Trainer(tiny(c), d; batch = 2, steps_per_epoch = 2, max_epochs = 1)
    @test_throws USplitError fit!(again; progress = p -> false)
    @test_throws ErrorException fit!(again; progress = p -> error("from the callback"))

    a = mixed(d, 0)
    planes, result = split_image(m, a)
    @test size(planes) == (64, 64, 2)
    @test result.tiles > 0
    wide = zeros(Float32, 128, 64)
    wide[1:2:end, :] = a
    @test split_image(m, view(wide, 1:2:128, :))[1] == planes       # through strides
    whole = similar(planes)
    split_rows((buffer, rows) -> buffer .= a[rows, :]',
               (rows, p) -> whole[rows, :, :] = permutedims(p, (2, 1, 3)), Tiler(m), 64, 64, 2)
    @test whole == planes

    file = joinpath(mktempdir(), "model.h5")
    save(m, file)
    @test split_image(load(c, file), a)[1] == planes
    @test_throws USplitError load(c, file * ".not")
    @test compare(a, a).rmse == 0

    rest, left = residual(a, planes; clip_value = result.clip_value)
    @test rest ≈ min.(a, Float32(result.clip_value)) .- sum(planes; dims = 3)[:, :, 1] ./ 2
    @test left.pixels == 64 * 64
    @test_throws ArgumentError residual(a, planes; weights = [1])
    @test seams(planes[:, :, 1], plan(Tiler(m), 64, 64).inner).ratio > 0
    two = cat(frame_of(d, 0), frame_of(d, 1); dims = 3)
    @test compare_pair(two, two[:, :, 2:-1:1]).swapped == 1

    v = Model(c; family = :hvae, variant = :lean, levels = 2, lc_count = 2, filters = 8, z_dims = 8, patch = 32)
    e = critters(c; n_frames = 24, size = 64, n_curves = 2, kinds = 1, levels = 3, seed = 1)
    fit!(Trainer(v, e; batch = 8, learning_rate = 0.003, max_steps = 80))
    @test calibration(v) === nothing
    made = calibrate(v, e; samples = 4)
    set_calibration!(v, made)
    @test calibration(v).slope == made.slope
    both, result = split_image(v, a; samples = 4, deviations = 1, calibrated = 1)
    @test size(both) == (64, 64, 4) && result.calibrated == 1
    set_calibration!(v, nothing)
    @test_throws USplitError split_image(v, a; samples = 4, deviations = 1, calibrated = 1)

    known = cat([200 + 90sin(j / 6) for i in 1:66, j in 1:66], [150 + 60cos(i / 5) for i in 1:66, j in 1:66]; dims = 3)
    mixtures = dip_mix(Float32.(known))
    @test mixtures[:, :, 2] ≈ 0.3 .* known[:, :, 1] .+ 0.7 .* known[:, :, 2]
    estimates, told = dip(c, mixtures; iterations = 3, seed = 1)
    @test size(estimates) == (66, 66, 2) && told.iterations == 3
    @test dip(c, mixtures; iterations = 3, seed = 1)[1] == estimates
    best = zeros(Float32, 66, 66, 2)
    @test_throws USplitError dip(c, mixtures; planes = best, progress = p -> false)
    @test any(!iszero, best)
    @test dip(c, mixtures[:, :, 1]; iterations = 1)[2].mode == USplit.USPLIT_DIP_SINGLE

    tilers = [Tiler(m) for _ in 1:8]                                # freed in any order
    c = d = m = t = again = nothing
    GC.gc()
    @test split_image(tilers[3], a, 2)[1] == planes
    tilers = nothing
    GC.gc()
end
