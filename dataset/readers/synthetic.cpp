// Shapes, textures and colours of the synthetic data set.
#include "dataset/readers/synthetic.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "common/check.h"
#include "common/random.h"

namespace plateau {
namespace {

constexpr int kShapes = 5, kTextures = 4, kHues = 8;
constexpr std::array<const char*, kShapes> kShapeNames{"disc", "cross", "triangle", "square", "ring"};
constexpr std::array<const char*, kTextures> kTextureNames{"level stripes", "upright stripes", "checks", "dots"};
constexpr std::array<const char*, kHues> kHueNames{"red", "orange", "lime", "green", "cyan", "blue", "violet", "pink"};

using Colour = std::array<float, 3>;  // 0..255

// What a class prescribes; -1: drawn for each image.
struct Kind {
  int shape = 0, texture = 0, hue = -1, ground = -1;
};

// The first four classes differ in shape and in texture; 20 are all pairs of the two; more add hues, then grounds.
Kind KindOf(int label, int classes) {
  constexpr int kPairs = kShapes * kTextures;
  const int pair = label % kPairs, texture = pair % kTextures;
  Kind kind{(texture + pair / kTextures) % kShapes, texture, -1, -1};
  if (classes > kPairs) kind.hue = label / kPairs % kHues;
  if (classes > kPairs * kHues) kind.ground = label / (kPairs * kHues);
  return kind;
}

// Coordinates relative to the shape: its outline lies within [-1, 1].
bool Inside(int shape, float u, float v) {
  const float radius2 = u * u + v * v;
  switch (shape) {
    case 0: return radius2 <= 1;
    case 1: return (std::abs(u) <= 0.34f && std::abs(v) <= 1) || (std::abs(v) <= 0.34f && std::abs(u) <= 1);
    case 2: return v <= 0.75f && std::abs(u) <= (v + 1) * 0.58f;
    case 3: return std::max(std::abs(u), std::abs(v)) <= 0.85f;
    default: return radius2 <= 1 && radius2 >= 0.3f;
  }
}

// Coordinates in periods of the texture.
bool Bright(int texture, float u, float v) {
  const float x = u - std::floor(u), y = v - std::floor(v);
  switch (texture) {
    case 0: return y < 0.5f;
    case 1: return x < 0.5f;
    case 2: return (x < 0.5f) != (y < 0.5f);
    default: return (x - 0.5f) * (x - 0.5f) + (y - 0.5f) * (y - 0.5f) < 0.1f;
  }
}

// hue in [0, 8), saturation and value in [0, 1] (Smith, "Color gamut transform pairs", SIGGRAPH 1978).
Colour FromHsv(float hue, float saturation, float value) {
  Colour colour;
  constexpr std::array<float, 3> kOffsets{5, 3, 1};
  for (int channel = 0; channel < 3; ++channel) {
    const float k = std::fmod(kOffsets[channel] + hue * 0.75f, 6.0f);
    colour[channel] = 255 * value * (1 - saturation * std::clamp(std::min(k, 4 - k), 0.0f, 1.0f));
  }
  return colour;
}

Colour Mix(const Colour& a, const Colour& b, float share) {
  return {a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share};
}

// Everything random about one image.
struct Scene {
  Kind kind;
  float centre_x, centre_y, radius, cosine, sine, period, phase_x, phase_y;
  Colour bright, dark, ground_a, ground_b;
  float slope_x, slope_y, wave_x, wave_y, wave_phase, noise;

  Colour At(float x, float y) const {
    const float dx = x - centre_x, dy = y - centre_y;
    const float u = (dx * cosine + dy * sine) / radius, v = (dy * cosine - dx * sine) / radius;
    if (Inside(kind.shape, u, v)) return Bright(kind.texture, u / period + phase_x, v / period + phase_y) ? bright : dark;
    const float wave = 0.25f * std::sin(wave_x * x + wave_y * y + wave_phase);
    return Mix(ground_a, ground_b, std::clamp(0.5f + slope_x * dx + slope_y * dy + wave, 0.0f, 1.0f));
  }
};

Scene DrawScene(const Kind& kind, int width, int height, RandomStream& random) {
  const auto between = [&](float low, float high) { return low + (high - low) * random.NextUniform(); };
  const float side = static_cast<float>(std::min(width, height));
  Scene scene{};
  scene.kind = kind;
  scene.radius = side * between(0.27f, 0.40f);
  scene.centre_x = static_cast<float>(width) / 2 + side * between(-0.1f, 0.1f);
  scene.centre_y = static_cast<float>(height) / 2 + side * between(-0.1f, 0.1f);
  const float tilt = between(-0.2f, 0.2f);
  scene.cosine = std::cos(tilt);
  scene.sine = std::sin(tilt);
  scene.period = between(0.42f, 0.6f);
  scene.phase_x = between(0, 1);
  scene.phase_y = between(0, 1);
  const float hue = kind.hue >= 0 ? static_cast<float>(kind.hue) + between(-0.3f, 0.3f) + kHues : between(0, kHues);
  const float ground_hue = kind.ground >= 0 ? static_cast<float>(kind.ground) + between(-0.3f, 0.3f) + kHues : between(0, kHues);
  scene.bright = FromHsv(hue, between(0.4f, 0.9f), between(0.75f, 1.0f));
  scene.dark = Mix(scene.bright, {0, 0, 0}, between(0.55f, 0.85f));
  const float saturation = kind.ground >= 0 ? between(0.5f, 0.7f) : between(0.0f, 0.5f);
  scene.ground_a = FromHsv(ground_hue, saturation, between(0.25f, 0.55f));
  scene.ground_b = FromHsv(ground_hue, saturation, between(0.55f, 0.85f));
  scene.slope_x = between(-0.7f, 0.7f) / side;
  scene.slope_y = between(-0.7f, 0.7f) / side;
  scene.wave_x = between(-12, 12) / side;
  scene.wave_y = between(-12, 12) / side;
  scene.wave_phase = between(0, 2 * std::numbers::pi_v<float>);
  scene.noise = between(4, 18);
  return scene;
}

}  // namespace

ClassInfo SyntheticClass(int label, int classes) {
  PLATEAU_CHECK(label >= 0 && label < classes && classes <= kSyntheticClasses, "label {} of {}", label, classes);
  const Kind kind = KindOf(label, classes);
  std::string words = fmt::format("{} with {}", kShapeNames[kind.shape], kTextureNames[kind.texture]);
  if (kind.hue >= 0) words = fmt::format("{} {}", kHueNames[kind.hue], words);
  if (kind.ground >= 0) words += fmt::format(" on {}", kHueNames[kind.ground]);
  return {fmt::format("n{:08}", 90000000 + label), words};
}

void DrawSynthetic(int label, int classes, int side, uint64_t seed, uint64_t split, uint64_t ordinal, Image& out) {
  PLATEAU_CHECK(side >= 8 && label >= 0 && label < classes, "side {} label {} of {}", side, label, classes);
  RandomStream random(seed, RandomPurpose::kSynthetic, split, ordinal);
  const int longer = side + static_cast<int>(random.NextBelow(static_cast<uint32_t>(side / 3 + 1)));
  const bool wide = random.NextBelow(2) == 1;
  out.width = wide ? longer : side;
  out.height = wide ? side : longer;
  out.pixels.resize(static_cast<size_t>(out.width) * static_cast<size_t>(out.height) * 3);
  const Scene scene = DrawScene(KindOf(label, classes), out.width, out.height, random);
  uint8_t* pixel = out.pixels.data();
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x) {
      Colour sum{};
      for (const float offset_y : {0.25f, 0.75f})
        for (const float offset_x : {0.25f, 0.75f}) {
          const Colour colour = scene.At(static_cast<float>(x) + offset_x, static_cast<float>(y) + offset_y);
          for (int channel = 0; channel < 3; ++channel) sum[channel] += colour[channel] / 4;
        }
      for (int channel = 0; channel < 3; ++channel) {
        const float noise = (random.NextUniform() + random.NextUniform() - 1) * 2 * scene.noise;
        *pixel++ = static_cast<uint8_t>(std::clamp(sum[channel] + noise, 0.0f, 255.0f));
      }
    }
  }
}

}  // namespace plateau
