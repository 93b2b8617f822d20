// Passes every request on and checks nothing: what the gateway is measured against.
export default {
  fetch(request, env) {
    return env.ORIGIN.fetch(request);
  },
};
