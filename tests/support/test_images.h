// Pictures and image files of every kind the decoders meet, made in memory.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <jpeglib.h>  // after <cstdio>, which it needs
#include <png.h>

#include "common/random.h"
#include "dataset/decode.h"

namespace plateau::testing {

// Smooth waves with some noise, so that every pixel says where it is and compression stays mild. `variant` changes it all.
inline Image MakePicture(int width, int height, uint32_t variant = 0) {
  Image image{width, height, std::vector<uint8_t>(size_t{3} * width * height)};
  RandomStream noise(variant, RandomPurpose::kSynthetic, 0, 0);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) {
        const double wave = std::sin(x * 0.05 * (c + 1) + variant) + std::cos(y * 0.07 * (3 - c) + 0.01 * x);
        image.pixels[3 * (size_t{1} * y * width + x) + c] = static_cast<uint8_t>(128 + 50 * wave + noise.NextBelow(16) - 8);
      }
  return image;
}

struct JpegKind {
  int luma_h = 1, luma_v = 1;  // sampling factors: 1x1 is 4:4:4, 2x2 4:2:0, 2x1 4:2:2
  bool progressive = false;
  int restart_rows = 0;
  int quality = 92;
  J_COLOR_SPACE stored = JCS_YCbCr;  // or JCS_GRAYSCALE, JCS_RGB, JCS_CMYK, JCS_YCCK
  bool adobe_marker = false;         // CMYK: with it, values are inverted
};

// `components` a pixel: 1 for gray, 3 for RGB, 4 for ink, row-major.
inline std::string MakeJpeg(const std::vector<uint8_t>& pixels, int width, int height, const JpegKind& kind = {}) {
  jpeg_compress_struct codec{};
  jpeg_error_mgr errors;
  codec.err = jpeg_std_error(&errors);
  jpeg_create_compress(&codec);
  unsigned char* buffer = nullptr;
  unsigned long bytes = 0;
  jpeg_mem_dest(&codec, &buffer, &bytes);
  const bool ink = kind.stored == JCS_CMYK || kind.stored == JCS_YCCK;
  codec.image_width = static_cast<JDIMENSION>(width);
  codec.image_height = static_cast<JDIMENSION>(height);
  codec.input_components = ink ? 4 : kind.stored == JCS_GRAYSCALE ? 1 : 3;
  codec.in_color_space = ink ? JCS_CMYK : kind.stored == JCS_GRAYSCALE ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&codec);
  jpeg_set_colorspace(&codec, kind.stored);
  jpeg_set_quality(&codec, kind.quality, TRUE);
  for (int i = 0; i < codec.num_components; ++i) codec.comp_info[i].h_samp_factor = codec.comp_info[i].v_samp_factor = 1;
  codec.comp_info[0].h_samp_factor = kind.luma_h;
  codec.comp_info[0].v_samp_factor = kind.luma_v;
  codec.restart_in_rows = kind.restart_rows;
  codec.write_Adobe_marker = kind.adobe_marker;
  if (kind.progressive) jpeg_simple_progression(&codec);
  jpeg_start_compress(&codec, TRUE);
  while (codec.next_scanline < codec.image_height) {
    auto* line = const_cast<JSAMPROW>(pixels.data() + size_t{1} * codec.next_scanline * width * codec.input_components);
    jpeg_write_scanlines(&codec, &line, 1);
  }
  jpeg_finish_compress(&codec);
  std::string out(reinterpret_cast<const char*>(buffer), bytes);
  jpeg_destroy_compress(&codec);
  std::free(buffer);
  return out;
}

inline std::string MakeJpeg(const Image& image, const JpegKind& kind = {}) {
  return MakeJpeg(image.pixels, image.width, image.height, kind);
}

// `samples` as PNG stores them: row-major, big-endian when bit_depth is 16; colour_type is PNG_COLOR_TYPE_*.
inline std::string MakePng(const std::vector<uint8_t>& samples, int width, int height, int colour_type, int bit_depth = 8,
                           bool interlaced = false) {
  std::string out;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &out,
      [](png_structp self, png_bytep data, size_t size) {
        static_cast<std::string*>(png_get_io_ptr(self))->append(reinterpret_cast<const char*>(data), size);
      },
      nullptr);
  png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height), bit_depth, colour_type,
               interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (colour_type == PNG_COLOR_TYPE_PALETTE) {
    std::vector<png_color> palette(256);
    for (size_t i = 0; i < 256; ++i)
      palette[i] = {static_cast<png_byte>(i), static_cast<png_byte>(255 - i), static_cast<png_byte>(i / 2)};
    png_set_PLTE(png, info, palette.data(), 256);
  }
  png_write_info(png, info);
  const size_t row_bytes = samples.size() / static_cast<size_t>(height);
  std::vector<png_bytep> rows;
  for (int y = 0; y < height; ++y) rows.push_back(const_cast<png_bytep>(samples.data() + row_bytes * y));
  png_write_image(png, rows.data());
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  return out;
}

inline std::string MakePng(const Image& image) { return MakePng(image.pixels, image.width, image.height, PNG_COLOR_TYPE_RGB); }

}  // namespace plateau::testing
