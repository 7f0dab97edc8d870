# What the package promises, on a very small network. Run: julia --project=bindings/julia -e 'using Pkg; Pkg.test()'
using Test
using USplit

tiny(c) = Model(c; family = :hae, variant = :lean, levels = 2, lc_count = 2, filters = 8, z_dims = 8, patch = 32)

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

    tilers = [Tiler(m) for _ in 1:8]                                # freed in any order
    c = d = m = t = again = nothing
    GC.gc()
    @test split_image(tilers[3], a, 2)[1] == planes
    tilers = nothing
    GC.gc()
end
