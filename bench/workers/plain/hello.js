// The least that a worker can do: what everything else at the edge is measured against.
export default {
  fetch() {
    return new Response("Hello, world\n");
  },
};
