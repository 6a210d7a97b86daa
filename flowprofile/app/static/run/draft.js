// The definition that a form fills in: a plain value, changed piece by piece.

/** What the store was asked for last, to begin with; without what is empty. */
export function drafted(base) {
  const draft = structuredClone(base);
  for (const name of ["description", "interventions"]) if (!Object.keys(draft[name] ?? {}).length) delete draft[name];
  return draft;
}

/** A name that a table has not yet: `ssim`, `ssim_2`, ... */
export function freeName(wanted, taken) {
  let name = wanted;
  for (let n = 2; name in (taken ?? {}); n += 1) name = `${wanted}_${n}`;
  return name;
}

/** A new stage of a kind: it keeps the states that the trajectory keeps, so that nothing need be sampled for it. */
export function newStage(kind, draft, mask) {
  const stage = { use: kind.name };
  const names = kind.fields.map((field) => field.name);
  const keep = draft.stages?.trajectory?.keep;
  if (kind.name !== "trajectory" && names.includes("keep") && keep !== undefined) stage.keep = keep;
  if (mask && names.includes("mask")) stage.mask = mask;
  return stage;
}

/** The kind that a stage's table is of. */
export function kindOf(name, stage) {
  return stage.use ?? name;
}

/** The view in which a stage is looked at. */
export function viewOf(use) {
  const views = {
    trajectory: "sample", predicted_x0: "sample", decoded: "sample", activations: "activations", pooled: "activations",
    channel_sums: "activations", max_channel: "activations", attention: "attention", attention_maps: "attention",
    word_maps: "attention", gradient_volume: "gradients", gradient_sum: "gradients", gradient_energy: "gradients",
    layer_gradients: "gradients", gradient_channel: "gradients",
  };
  return views[use] ?? "measures";
}
