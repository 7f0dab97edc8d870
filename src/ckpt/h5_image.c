// HDF5 files in memory: HDF5's core driver reads our bytes in place, through its file image callbacks,
// which hand out the same block instead of copies of it. For reading only.
#include <stdatomic.h>
#include <stdio.h>

#include "ckpt/container.h"
#include "ckpt/h5.h"

void us_h5_image_name(char name[US_H5_IMAGE_NAME_BYTES])
{
    static atomic_uint counter;
    // Below a device, where no file can exist.
    snprintf(name, US_H5_IMAGE_NAME_BYTES, "/dev/null/usplit-image-%u", atomic_fetch_add(&counter, 1));
}

static void *image_malloc(size_t n, H5FD_file_image_op_t op, void *user)
{
    const us_h5_image *image = user;
    (void)op;
    return n <= image->n ? image->bytes : NULL;
}

static void *image_memcpy(void *dst, const void *src, size_t n, H5FD_file_image_op_t op, void *user)
{
    const us_h5_image *image = user;
    (void)op;
    return dst == src && dst == image->bytes && n <= image->n ? dst : NULL;
}

static void *image_realloc(void *block, size_t n, H5FD_file_image_op_t op, void *user)
{
    (void)block, (void)n, (void)op, (void)user;
    return NULL; // the file is opened for reading: it never grows
}

static herr_t image_free(void *block, H5FD_file_image_op_t op, void *user)
{
    (void)block, (void)op, (void)user;
    return 0; // the owner of the bytes does
}

static void *user_copy(void *user)
{
    return user;
}

static herr_t user_free(void *user)
{
    (void)user;
    return 0;
}

usplit_status us_h5_open_image(hid_t *h5, us_h5_image *image, const char *file)
{
    H5FD_file_image_callbacks_t callbacks = {image_malloc, image_memcpy, image_realloc, image_free,
                                             user_copy,    user_free,    image};
    *h5 = -1;
    char name[US_H5_IMAGE_NAME_BYTES];
    us_h5_image_name(name);
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access >= 0 && H5Pset_fapl_core(access, 65536, 0) >= 0 &&
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0 &&
        H5Pset_file_image_callbacks(access, &callbacks) >= 0 &&
        H5Pset_file_image(access, image->bytes, image->n) >= 0) {
        *h5 = H5Fopen(name, H5F_ACC_RDONLY, access);
    }
    usplit_status status = USPLIT_OK;
    if (*h5 < 0) {
        status = us_h5_fail(USPLIT_ERR_FORMAT, "%s: not an HDF5 file behind its header", us_ckpt_shown(file));
    }
    us_h5_close(access);
    return status;
}
