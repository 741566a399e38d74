import type { Call } from '../base/call.ts';
import { CrioError } from '../base/errors.ts';
import type { Image } from '../image/images.ts';
import type { Spec } from '../runtime/spec/oci.ts';
import { buildPodSpec } from '../runtime/spec/pod-spec.ts';
import { checkPodMemory } from './cgroup.ts';
import type { Context, HandlerOf } from './context.ts';
import type { PodPlan } from './plan.ts';
import type { PodPlaces } from './pod-of.ts';

interface SpecParts {
  readonly plan: PodPlan;
  readonly handler: HandlerOf;
  readonly image: Image;
  readonly places: PodPlaces;
}

/** The spec without the network's result, which is not known yet. */
export async function buildSpec(
  context: Context,
  call: Call,
  { plan, handler, image, places }: SpecParts,
): Promise<Spec> {
  call.stage('sandbox spec configuration');
  const settings = context.specSettings(handler.config);
  await checkPodMemory(context, plan, settings.containerMinMemory);
  const { image: imageOptions } = context.config();
  return buildPodSpec({
    ociVersion: handler.runtime.features.ociVersion,
    settings,
    host: context.host,
    ...plan,
    metadata: plan.config.metadata,
    namespaceOptions: plan.namespaces,
    namespacePaths: plan.namespacePlan.paths,
    runtimeHandler: plan.handler,
    args: pauseArguments(imageOptions.pauseCommand, image),
    pauseImage: imageOptions.pauseImage,
    ...places,
    infraDropped: !plan.infraKept,
    ...plan.userNamespace,
    cniResult: undefined,
    overhead: plan.config.overhead,
    resources: plan.config.resources,
    seccomp: await context.chooseSeccomp({
      profile:
        plan.config.securityContext === undefined
          ? { type: 'runtime-default', localhostRef: '' }
          : plan.config.securityContext.seccomp,
      privileged: plan.privileged,
      handler: handler.config,
    }),
    processLabel: '',
    mountLabel: '',
  });
}

/** The configured command is one argument, whatever it holds. */
function pauseArguments(pauseCommand: string, image: Image): readonly string[] {
  if (pauseCommand !== '') return [pauseCommand];
  const args = [...image.config.entrypoint, ...image.config.cmd];
  if (args.length === 0)
    throw new CrioError('unknown', 'pause image has no entrypoint and no command, and pause_command is empty');
  return args;
}
