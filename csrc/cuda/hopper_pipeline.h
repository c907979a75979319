// How a block works on compute capability 9.0: one warpgroup fetches, the others
// multiply, stage by stage over all tiles of the block's share.
#pragma once

#include "cuda/hopper_tile.h"

namespace shared_dense::cuda {

// Which stage is next, and the parity of its barriers' phase.
template <int kStages>
struct Turn {
  int slot = 0;
  unsigned parity = 0;
  __device__ void next() {
    if (++slot == kStages) {
      slot = 0;
      parity ^= 1;
    }
  }
};

template <class Tile>
struct Stages {
  unsigned char* memory;
  Barrier* full;   // a phase: filled, for wgmma to see
  Barrier* empty;  // a phase: read by every warp of the cluster

  __device__ explicit Stages(unsigned char* shared) {
    const int off = shared_address(shared) % Tile::kAlignment;
    memory = shared + (off == 0 ? 0 : Tile::kAlignment - off);
    full = reinterpret_cast<Barrier*>(memory + Tile::kStages * Tile::kStageBytes);
    empty = full + Tile::kStages;
  }
  __device__ unsigned char* stage(int slot) const { return memory + slot * Tile::kStageBytes; }
  __device__ void init() const {
    if (threadIdx.x == 0) {
      for (int slot = 0; slot < Tile::kStages; ++slot) {
        // From each warp, and from the thread that calls the copy engine.
        init_barrier(full + slot, kProducers / 32 + 1);
        init_barrier(empty + slot, 4 * Tile::kGroups * Tile::kCluster);
      }
      fence_barriers();
    }
    if constexpr (Tile::kCluster > 1) {
      sync_cluster();
    } else {
      __syncthreads();
    }
  }
};

// Of this block in its cluster.
template <class Tile>
__device__ int rank() {
  return blockIdx.x % Tile::kCluster;
}

// One chunk of a line to shared memory; from nullptr: zeros.
template <class S>
__device__ void fetch_chunk(unsigned char* to, const S* from, bool by_vectors) {
  if (by_vectors && from != nullptr) {
    copy_async(to, from);
    return;
  }
  Pack<std::uint32_t, 4> words = {};
  if (from != nullptr) {
#pragma unroll
    for (int e = 0; e < kChunk; ++e) {
      words.item[e / 2] |= std::uint32_t{from[e].bits} << (e % 2 * 16);
    }
  }
  store_shared(to, words);
}

// Of each line a producer moves chunk threadIdx.x % 8, of lines threadIdx.x / 8
// and every sixteenth from there.
constexpr int kLinesApart = kProducers / 8;

// Work::Fetch(work, place) fetches the stages of a tile: fetch(stage, full, depth).
template <class Tile, class Work>
__device__ void produce(const Stages<Tile>& stages, const Work& work) {
  // Stages that a thread has under way: half, so that some are fetched while
  // others are ready. A stage is handed over when its copies are there and fenced.
  constexpr int most = Tile::kStages / 2;
  Turn<Tile::kStages> turn, ready;
  const auto hand_over = [&] {
    fence_writes();
    sync_warp();
    if (threadIdx.x % 32 == 0) arrive(stages.full + ready.slot);
    ready.next();
  };
  int under_way = 0;
#pragma unroll 1
  for (Index index = blockIdx.x / Tile::kCluster; index < work.count();
       index += grid_size() / Tile::kCluster) {
    const typename Work::Place place = work.at(static_cast<int>(index));
    typename Work::Fetch fetch(work, place);
#pragma unroll 1
    for (Index depth = place.begin; depth < place.end; depth += Tile::kDepth) {
      // First, as waiting for an empty stage takes as long as a multiply.
      if (under_way == most) {
        wait_copies<most - 1>();
        hand_over();
        --under_way;
      }
      wait(stages.empty + turn.slot, turn.parity ^ 1);
      fetch(stages.stage(turn.slot), stages.full + turn.slot, depth);
      commit_copies();
      turn.next();
      ++under_way;
    }
  }
  wait_copies<0>();
  for (; under_way > 0; --under_way) hand_over();
}

template <class Tile, class Work>
__device__ void consume(const Stages<Tile>& stages, const Work& work) {
  const int group = threadIdx.x / 128 - 1;
  Turn<Tile::kStages> turn;
  const auto release = [&](int slot) {
    if constexpr (Tile::kCluster > 1) {
      // Everybody fills the stages of all.
      if (threadIdx.x % 32 < Tile::kCluster) arrive_in(stages.empty + slot, threadIdx.x % 32);
    } else {
      if (threadIdx.x % 32 == 0) arrive(stages.empty + slot);
    }
  };
#pragma unroll 1
  for (Index index = blockIdx.x / Tile::kCluster; index < work.count();
       index += grid_size() / Tile::kCluster) {
    const typename Work::Place place = work.at(static_cast<int>(index));
    float d[Tile::kSums];
#pragma unroll
    for (int i = 0; i < Tile::kSums; ++i) d[i] = 0;
    int last = -1;  // the stage that is being read
#pragma unroll 1
    for (Index depth = place.begin; depth < place.end; depth += Tile::kDepth) {
      wait(stages.full + turn.slot, turn.parity);
      Tile::multiply(d, stages.stage(turn.slot), group);
      wait_multiplies<1>();
      if (last >= 0) release(last);
      last = turn.slot;
      turn.next();
    }
    wait_multiplies<0>();
    settle(d);
    if (last >= 0) release(last);
    work.finish(place, group, d);
  }
}

template <class Tile, class Work>
__device__ void run_block(const Work& work) {
  const Stages<Tile> stages(shared_memory());
  stages.init();
  // Two consumers and a producer share 168 registers a thread (65536 / 384).
  if (threadIdx.x < kProducers) {
    if constexpr (Tile::kGroups == 2) give_registers<88>();
    produce(stages, work);
  } else {
    if constexpr (Tile::kGroups == 2) take_registers<208>();
    consume(stages, work);
  }
  // A block's memory must last as long as the others reach into it.
  if constexpr (Tile::kCluster > 1) sync_cluster();
}

}  // namespace shared_dense::cuda
